// A metric in a run that learns, and in one that breaks.
"use strict";

Live.figure("metrics", (parent, data) => {
  const state = Live.state("metrics", { metric: "train/approx_kl" });
  const controls = Live.group(parent, "Metric");
  const [words, place] = [Live.element("p", { class: "live-said", role: "status" }), Live.element("div")];
  parent.append(place, words);

  function draw() {
    const name = state.values.metric;
    const told = data.metrics[name];
    place.replaceChildren();
    const log = name.includes("approx_kl"); // the two runs are decades apart
    const chart = Chart.create(place, { title: name, x: "environment steps", height: 12, log });
    const curves = ["healthy", "broken"].map((kind, series) => ({
      kind: "line", x: data.steps[kind], y: told[kind].map((y) => (y === null ? NaN : y)), series, label: kind,
    }));
    const limit = told.limit === null ? [] : [{ kind: "level", axis: "y", at: told.limit, label: "limit" }];
    chart.draw([...curves, ...limit], told.hint);
    words.textContent = told.hint;
  }

  const options = Object.keys(data.metrics).map((name) => [name, name]);
  Live.choice(controls, { label: "Metric", options, value: state.values.metric }, (value) => {
    state.set("metric", value);
    draw();
  });
  draw();
});

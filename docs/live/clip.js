// Objective and slope against the ratio, and the ratios of a real update below them.
"use strict";

Live.figure("clip", (parent, data) => {
  const { element } = Live;
  const state = Live.state("clip", { objective: "clip:0.2", ratio: 1.3, epoch: data.update.all.length - 1 });
  const chosen = state.values;
  const controls = Live.group(parent, "What the actor maximises");
  const row = element("div", { class: "live-row two" });
  const charts = {};
  for (const [name, title] of [["good", "A good action, A = +1"], ["bad", "A bad action, A = −1"]]) {
    const column = element("div");
    const words = element("p", { class: "live-said" });
    charts[name] = { chart: Chart.create(column, { title, x: "ratio of new to old probability", left: 0, right: 2.2 }), words };
    column.append(words);
    row.append(column);
  }
  parent.append(row);
  const cases = element("tbody");
  const head = ["advantage", "ratio", "clip:0.2 says", "slope"].map((text) => element("th", { scope: "col" }, text));
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...head)), cases);
  const samples = element("div");
  parent.append(samples, element("details", {}, element("summary", {}, "The six cases of eq. 7"), table));
  const { update } = data;
  const below = Live.group(samples, `The ratios of a real update: HalfCheetah, update ${update.number}`);
  const histogram = Chart.create(samples, { title: "Samples", x: "ratio", left: 0.5, right: 1.5 });
  const at = (curve, ratio, name) => {
    const i = curve.ratio.findIndex((x) => x >= ratio);
    const [a, b] = [Math.max(0, i - 1), Math.max(0, i)];
    const share = (ratio - curve.ratio[a]) / (curve.ratio[b] - curve.ratio[a] || 1);
    return curve[name][a] + share * (curve[name][b] - curve[name][a]);
  };

  function draw() {
    const ratio = chosen.ratio;
    for (const name of ["good", "bad"]) {
      const curve = data.objectives[chosen.objective][name];
      const plain = data.objectives.unclipped[name];
      const [value, slope] = [at(curve, ratio, "value"), at(curve, ratio, "slope")];
      charts[name].chart.set(name === "good" ? { low: -0.6, high: 2.2 } : { low: -2.4, high: 0.4 });
      const words = `at a ratio of ${ratio.toFixed(2)} the objective is ${value.toFixed(2)} and its slope ${slope.toFixed(2)}`;
      charts[name].chart.draw([
        { kind: "line", x: plain.ratio, y: plain.value, series: 6, dashed: true, label: "no clipping, r A" },
        { kind: "line", x: curve.ratio, y: curve.value, series: 0, label: chosen.objective },
        { kind: "line", x: curve.ratio, y: curve.slope, series: 1, faint: true, label: "slope" },
        { kind: "points", x: [ratio], y: [value], series: 0 },
        { kind: "level", axis: "x", at: 1 },
      ], words);
      const pushes = Math.abs(slope) < 0.005 ? "This sample pushes no more." : slope > 0 ? "It asks for a larger ratio." : "It asks for a smaller ratio.";
      charts[name].words.textContent = `Objective ${value.toFixed(2)}, slope ${slope.toFixed(2)}. ${pushes}`;
    }
    const place = ratio < 0.8 ? "below" : ratio > 1.2 ? "above" : "inside";
    cases.replaceChildren(...data.cases.map((each) => element(
      "tr", { "aria-current": each.place === place ? "true" : undefined },
      ...[each.action === "good" ? "above 0" : "below 0", `${each.place} (${each.ratio})`, each.value, each.slope]
        .map((text) => element("td", {}, String(text))),
    )));
  }

  function drawSamples() {
    const epoch = chosen.epoch;
    const [all, moving] = [update.all[epoch], update.moving[epoch]];
    const [low, high] = [1 - update.bounds[0], 1 + update.bounds[1]];
    const said = `after epoch ${epoch}, ${(100 * update.outside[epoch]).toFixed(0)}% of the ratios are outside the range, and ${(100 * update.no_slope[epoch]).toFixed(0)}% of the samples have no slope left`;
    histogram.draw([
      { kind: "bars", edges: update.edges, heights: all, series: 6, label: "no slope left" },
      { kind: "bars", edges: update.edges, heights: moving, series: 0, label: "still pushes" },
      { kind: "level", axis: "x", at: low, label: low.toFixed(1) },
      { kind: "level", axis: "x", at: high, label: high.toFixed(1) },
    ], said);
    spoken.textContent = `${said[0].toUpperCase()}${said.slice(1)}.`;
  }

  const names = Object.keys(data.objectives).map((name) => [name, name]);
  Live.choice(controls, { label: "Objective", options: names, value: chosen.objective }, (value) => {
    state.set("objective", value);
    draw();
  });
  Live.range(controls, { label: "Ratio r", low: 0.05, high: 2.15, step: 0.01, value: chosen.ratio, show: (r) => r.toFixed(2) }, (value) => {
    state.set("ratio", value);
    draw();
  });
  Live.range(below, { label: "After epoch", low: 0, high: update.all.length - 1, step: 1, value: chosen.epoch }, (value) => {
    state.set("epoch", value);
    drawSamples();
  });
  const spoken = element("p", { class: "live-said", role: "status" });
  samples.append(spoken);
  draw();
  drawSamples();
});

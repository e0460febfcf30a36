// How far an advantage looks ahead, what that costs, and what an end leaves of it.
"use strict";

Live.figure("advantages", (parent, data) => {
  const { element } = Live;
  const state = Live.state("advantages", { lambda: 6, gamma: 2, critic: 2, end: "termination" });
  const chosen = state.values;
  const controls = Live.group(parent, "Estimator");
  const row = element("div", { class: "live-row two" }, element("div"), element("div"));
  parent.append(row);
  const [left, right] = row.children;
  const weights = Chart.create(left, { title: "Weight of later TD errors", x: "steps later", low: 0, high: 1.05 });
  const errors = Chart.create(right, { title: "Squared error of an advantage", x: "lambda", log: true });
  const below = Live.group(parent, "What ends after the fourth of eight steps");
  const ends = Chart.create(parent, { title: "Advantages", y: "each reward 1, each value 5", x: "step", left: 0.5, right: 8.5, low: -4.5, high: 6.7 });
  const spoken = element("p", { class: "live-said", role: "status" });
  row.after(spoken);

  function draw() {
    const lambda = data.lambdas[chosen.lambda];
    const rows = data.weights[chosen.lambda][chosen.gamma];
    const edges = [...rows.keys(), rows.length].map((k) => k - 0.5);
    weights.draw([{ kind: "bars", edges, heights: rows, series: 0 }],
      `with lambda ${lambda} the weight falls to a half after ${rows.findIndex((w) => w < 0.5)} steps`);
    const walk = data.walk[chosen.critic];
    const [bias, spread, whole] = ["bias2", "variance", "error"].map((name) => walk[name][chosen.lambda]);
    const words = `With lambda ${lambda} and a critic that is ${walk.critic_error} off: bias squared ${Chart.short(bias)}, variance ${Chart.short(spread)}, together ${Chart.short(whole)}.`;
    errors.draw([
      { kind: "line", x: data.lambdas, y: walk.bias2, series: 1, label: "bias squared" },
      { kind: "line", x: data.lambdas, y: walk.variance, series: 2, label: "variance" },
      { kind: "line", x: data.lambdas, y: walk.error, series: 0, label: "both" },
      { kind: "level", axis: "x", at: lambda },
    ], words);
    errors.set({ low: 1e-4, high: 1 });
    spoken.textContent = words;
  }

  function drawEnds() {
    const { advantage } = data.ends.find((each) => each.end === chosen.end);
    const steps = advantage.map((_, i) => i + 1);
    const told = advantage.map((x) => (x === null ? "none" : x.toFixed(2))).join(", ");
    ends.draw([
      { kind: "line", x: steps, y: advantage.map((x) => (x === null ? NaN : x)), series: 0 },
      { kind: "points", x: steps, y: advantage.map((x) => (x === null ? NaN : x)), series: 0 },
      { kind: "level", axis: "x", at: 4.5, label: chosen.end.split(":")[0] },
    ], told);
  }

  const slider = (key, label, list, redraw) =>
    Live.range(controls, { label, low: 0, high: list.length - 1, step: 1, value: chosen[key], show: (i) => String(list[i]) }, (value) => {
      state.set(key, value);
      redraw();
    });
  slider("lambda", "Lambda", data.lambdas, draw);
  slider("gamma", "Gamma", data.gammas, draw);
  slider("critic", "Error of the critic", data.walk.map((each) => each.critic_error), draw);
  Live.choice(below, { label: "End", options: data.ends.map(({ end }) => [end, end]), value: chosen.end }, (value) => {
    state.set("end", value);
    drawEnds();
  });
  draw();
  drawEnds();
});

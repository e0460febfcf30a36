// PPO against a reward model: both scores, the distance, and what the policy says at the end.
"use strict";

Live.figure("rlhf", (parent, { runs, methods }) => {
  const { element } = Live;
  const names = Object.keys(runs);
  const last = runs[names[0]].gold.length - 1;
  const state = Live.state("rlhf", { run: names[2], at: last });
  const chosen = state.values;
  const controls = Live.group(parent, "Training");
  const change = (key) => (value) => {
    state.set(key, value);
    draw();
  };
  Live.choice(controls, { label: "KL coefficient, per nat", options: names.map((name) => [name, name]), value: chosen.run }, change("run"));
  Live.range(controls, { label: "Iteration", low: 0, high: last, step: 1, value: chosen.at }, change("at"));
  const [left, right, answers] = [1, 2, 3].map(() => element("div"));
  const said = element("p", { class: "live-said", role: "status" });
  parent.append(element("div", { class: "live-row two" }, left, right), said, answers);
  const time = { x: "iteration", left: 0, right: last };
  const scores = Chart.create(left, { title: "Score", ...time, low: -0.2, high: 2.8 });
  const distance = Chart.create(left, { title: "KL to the SFT model", y: "nats", ...time, low: 0, high: 17, height: 6 });
  const plane = Chart.create(right, { title: "Gold score", x: "KL to the SFT model, nats", height: 18, left: -0.5, right: 17, low: -0.3, high: 2.3 });

  function draw() {
    const { at } = chosen;
    const run = runs[chosen.run];
    const until = (key) => ({ kind: "line", x: run[key].slice(0, at + 1).map((_, i) => i), y: run[key].slice(0, at + 1) });
    const words = `Iteration ${at}: the reward model gives ${run.model[at].toFixed(2)}, the gold score is ${run.gold[at].toFixed(2)}, at ${run.kl[at].toFixed(1)} nats.`;
    scores.draw([{ ...until("model"), series: 1, label: "reward model" }, { ...until("gold"), series: 0, label: "gold" }], words);
    distance.draw([{ ...until("kl"), series: 6 }], words);
    plane.draw([
      { kind: "line", x: until("kl").y, y: until("gold").y, series: 0, faint: true },
      ...methods.map(({ name, kl, gold }, series) => ({ kind: "points", x: [kl], y: [gold], series, label: name })),
      { kind: "points", x: [run.kl[at]], y: [run.gold[at]], series: 6, label: "now" },
    ], words);
    said.textContent = words;
    answers.replaceChildren(...methods.filter(({ name }) => name === "SFT" || name === chosen.run).map((one) =>
      element("p", {}, element("b", {}, `${one.name}, at the end: `), `“${one.answers.join("” “")}”. ${(100 * one.distinct).toFixed(1)}% of 1,024 answers differ.`)));
  }

  draw();
});

// PPO against a reward model, step by step: both scores, the distance, and what the policy says at the end.
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
  Live.choice(controls, { label: "KL coefficient, per nat", options: names.map((name) => [name, name.replace("PPO, beta ", "")]), value: chosen.run }, change("run"));
  Live.range(controls, { label: "Iteration", low: 0, high: last, step: 1, value: chosen.at }, change("at"));
  const row = element("div", { class: "live-row two" });
  const [left, right, said, answers] = ["div", "div", "p", "div"].map((name) => element(name));
  said.className = "live-said";
  said.setAttribute("role", "status");
  answers.className = "live-row two";
  row.append(left, right);
  parent.append(row, said, answers);
  const scores = Chart.create(left, { title: "Score", y: "of the answers", x: "iteration", low: -0.2, high: 2.8 });
  const distance = Chart.create(left, { title: "KL to the SFT model", y: "nats", x: "iteration", low: 0, height: 6 });
  const plane = Chart.create(right, { title: "Gold score", y: "against the distance", x: "KL to the SFT model, nats", height: 18, left: -0.5, right: 17, low: -0.3, high: 2.3 });

  function draw() {
    const { at } = chosen;
    const run = runs[chosen.run];
    const until = (key) => ({ kind: "line", x: run[key].slice(0, at + 1).map((_, i) => i), y: run[key].slice(0, at + 1) });
    const words = `Iteration ${at}: the reward model gives ${run.model[at].toFixed(2)}, the gold score is ${run.gold[at].toFixed(2)}, at ${run.kl[at].toFixed(1)} nats.`;
    scores.set({ left: 0, right: last });
    scores.draw([{ ...until("model"), series: 1, label: "reward model" }, { ...until("gold"), series: 0, label: "gold" }], words);
    distance.set({ left: 0, right: last, high: Math.max(...run.kl) });
    distance.draw([{ ...until("kl"), series: 6 }], words);
    plane.draw([
      { kind: "line", x: until("kl").y, y: until("gold").y, series: 0, faint: true },
      ...methods.map(({ name, kl, gold }, series) => ({ kind: "points", x: [kl], y: [gold], series, label: name })),
      { kind: "points", x: [run.kl[at]], y: [run.gold[at]], series: 6, label: `iteration ${at}` },
    ], words);
    said.textContent = words;
    answers.replaceChildren(...methods.filter(({ name }) => name === "SFT" || name === chosen.run).map(({ name, answers: four, distinct }) =>
      element("div", {}, element("b", {}, `${name}: answers at the end`), element("ul", {}, ...four.map((text) => element("li", {}, text))), `${Math.round(1000 * distinct) / 10}% of 1,024 differ`)));
  }

  draw();
});

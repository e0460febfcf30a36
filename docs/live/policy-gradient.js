// One sample's push on all logits, and how many samples the direction needs.
"use strict";

Live.figure("policy-gradient", (parent, data) => {
  const { element } = Live;
  const state = Live.state("policy-gradient", { action: 2, weight: 2 });
  const chosen = state.values;
  const controls = Live.group(parent, "One sample");
  const row = element("div", { class: "live-row two" }, element("div"), element("div"));
  const spoken = element("p", { class: "live-said", role: "status" });
  parent.append(spoken, row);
  const [left, right] = row.children;
  const edges = [0.5, 1.5, 2.5, 3.5];
  const policy = Chart.create(left, { title: "Probability", x: "action", low: 0, high: 1 });
  const push = Chart.create(left, { title: "Push on the logits", x: "action", low: -3, high: 3 });
  const cosine = Chart.create(right, { title: "Cosine with the true gradient", x: "samples, a power of ten", low: -0.2, high: 1.05 });
  const spread = Chart.create(right, { title: "Spread of the estimate", x: "samples, a power of ten", log: true });
  const tens = data.counts.map(Math.log10);
  const both = (key) => [["raw reward", 1], ["advantage", 0]].map(([name, series]) => ({ kind: "line", x: tens, y: data[key][name], series, label: name }));

  function draw() {
    const pushes = data.push[chosen.action][chosen.weight];
    const weight = data.weights[chosen.weight];
    const words = `Action ${chosen.action + 1} with advantage ${weight}: ${pushes.map((x, i) => `logit ${i + 1} ${x > 0 ? "up" : "down"} by ${Math.abs(x).toFixed(2)}`).join(", ")}. The three add up to 0.`;
    policy.draw([{ kind: "bars", edges, heights: data.probabilities, series: 6 }], data.probabilities.join(", "));
    const stems = pushes.flatMap((x, i) => [{ kind: "line", x: [i + 1, i + 1], y: [0, x], series: x > 0 ? 2 : 1 }]);
    push.draw([...stems, { kind: "points", x: [1, 2, 3], y: pushes, series: 0 }, { kind: "level", axis: "y", at: 0 }], words);
    push.set({ left: 0.5, right: 3.5 });
    spoken.textContent = words;
  }

  Live.choice(controls, { label: "Action", options: [0, 1, 2].map((a) => [String(a), `${a + 1} (probability ${data.probabilities[a].toFixed(2)})`]), value: String(chosen.action) }, (value) => {
    state.set("action", Number(value));
    draw();
  });
  Live.range(controls, { label: "Advantage", low: 0, high: data.weights.length - 1, step: 1, value: chosen.weight, show: (i) => String(data.weights[i]) }, (value) => {
    state.set("weight", value);
    draw();
  });
  draw();
  draw();
  cosine.draw(both("cosine"), `with 10 samples ${data.cosine.advantage[2]} with advantages, ${data.cosine["raw reward"][2]} with raw rewards`);
  spread.draw(both("spread"), "both fall with the root of the number of samples; raw rewards begin far higher");
});

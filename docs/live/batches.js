// N x T steps cut into minibatches, with the reader's own numbers.
"use strict";

Live.figure("batches", (parent, { presets, names }) => {
  const state = Live.state("batches", { ...presets[0].options, look: 1 });
  const chosen = state.values;
  const fields = Live.group(parent, "Your numbers");
  for (const [key, theirs] of [...names, ["look"]]) {
    const label = theirs ? `${key} (SB3: ${theirs})` : "gradient step shown";
    const input = Live.element("input", { id: `batches-${key}`, type: "number", min: 1, value: chosen[key] });
    input.oninput = () => {
      state.set(key, Math.max(1, input.valueAsNumber | 0));
      draw();
    };
    fields.append(Live.element("div", { class: "live-control" }, Live.element("label", { for: input.id }, label), input));
  }
  const said = parent.appendChild(Live.element("p", { class: "live-said", role: "status" }));
  const chart = Chart.create(parent, { title: "The rollout", y: "environments", x: "step", left: 0, low: 0 });

  function draw() {
    const { num_envs: n, horizon: t, epochs, minibatch_size: m, steps, look } = chosen;
    const [samples, rollouts] = [n * t, Math.ceil(steps / (n * t))];
    const [cuts, text] = [samples / m, (value) => value.toLocaleString("en")];
    const words = cuts % 1
      ? `A minibatch of ${text(m)} does not divide ${text(n)} x ${text(t)} = ${text(samples)}.`
      : `${text(n)} x ${text(t)} = ${text(samples)} samples, cut into ${text(cuts)} minibatches of ${text(m)}. ${epochs} epochs: ${text(epochs * cuts)} gradient steps for each rollout. ${text(steps)} steps: ${text(rollouts)} rollouts, ${text(rollouts * epochs * cuts)} gradient steps.`;
    said.textContent = words;
    if (samples > 2e5 || cuts % 1) return;
    const [epoch, cut] = [Math.floor((look - 1) / cuts), (look - 1) % cuts];
    const draws = Array.from({ length: samples }, (_, i) => [Math.sin(i * 12.9898 + epoch * 78.233) * 43758.5453 % 1, i]);
    const values = draws.map(() => 0);
    for (const [, i] of draws.sort((a, b) => a[0] - b[0]).slice(cut * m, (cut + 1) * m)) values[i] = 1;
    chart.set({ right: t, high: n });
    chart.draw([{ kind: "heat", values, columns: t, low: 0, high: 1, from: "in another step", to: "in this one" }], words);
  }

  draw();
});

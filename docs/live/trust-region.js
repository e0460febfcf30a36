// The exact KL, the ellipse that approximates it, both gradients, and the line search.
"use strict";

Live.figure("trust-region", (parent, data) => {
  const state = Live.state("trust-region", { delta: 4 });
  const controls = Live.group(parent, "Limit");
  const [left, right] = [data.mean[0], data.mean[data.mean.length - 1]];
  const [low, high] = [data.log_std[0], data.log_std[data.log_std.length - 1]];
  const chart = Chart.create(parent, { title: "Policies", y: "log standard deviation", x: "mean", height: 20, left, right, low, high });
  const spoken = Live.element("p", { class: "live-said", role: "status" });
  parent.append(spoken);
  const limits = data.steps.map((step) => step.max_kl);
  const line = (points, series, label, dashed) => ({ kind: "line", x: points.map((p) => p[0]), y: points.map((p) => p[1]), series, label, dashed });
  const at = (points, series, label) => ({ kind: "points", x: points.map((p) => p[0]), y: points.map((p) => p[1]), series, label });

  function draw() {
    const step = data.steps[state.values.delta];
    const words = `KL at most ${step.max_kl}: the natural gradient's step reaches ${Chart.short(step.kl.natural)} and is refused; ${data.shrink} of it has ${Chart.short(step.kl.accepted)} and is taken, with the objective at ${Chart.short(step.surrogate.accepted)}. As long a step along the plain gradient gives ${Chart.short(step.surrogate.plain)}; the whole natural one ${Chart.short(step.surrogate.natural)}.`;
    chart.draw([
      { kind: "heat", values: data.surrogate, columns: data.mean.length, low: -2, high: 2, from: "worse", to: "better objective" },
      line(step.exact, 6, `KL = ${step.max_kl}`),
      line(step.quadratic, 6, "its ellipse", true),
      line([data.old, step.plain], 1, "plain gradient"),
      line([data.old, step.natural], 2, "natural gradient"),
      at([data.old], 6, "old policy"),
      at([step.natural], 3, "refused"),
      at([step.accepted], 2, "accepted"),
    ], words);
    spoken.textContent = words;
  }

  Live.range(controls, { label: "Largest KL(old || new)", low: 0, high: limits.length - 1, step: 1, value: state.values.delta, show: (i) => `${limits[i]} nats` }, (value) => {
    state.set("delta", value);
    draw();
  });
  draw();
});

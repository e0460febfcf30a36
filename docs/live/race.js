// Committed runs: means and seeds, by steps or gradient steps; intervals where two at most race.
"use strict";

Live.figure("race", (parent, { methods, groups, tasks, steps, points }) => {
  const state = Live.state("race", { task: "Walker2d", who: "figure3", x: "steps", at: points, shown: groups.figure3.first });
  const chosen = state.values;
  const controls = Live.group(parent, "Race");
  const change = (key) => (value) => {
    state.set(key, value);
    draw();
  };
  const choice = (label, key, options, act) => Live.choice(controls, { label, options, value: chosen[key] }, act || change(key));
  choice("Task", "task", tasks.map((task) => [task, task]));
  choice("Who", "who", Object.keys(groups).map((who) => [who, groups[who].label]), (who) => {
    state.set("shown", groups[who].first);
    change("who")(who);
    offer();
  });
  choice("Counted in", "x", [["steps", "environment steps"], ["gradient", "gradient steps of the actor"]]);
  const share = (at) => Math.round((at * steps) / points).toLocaleString("en");
  Live.range(controls, { label: "Run so far, steps", low: 1, high: points, step: 1, value: chosen.at, show: share }, change("at"));
  const buttons = parent.appendChild(Live.element("div", { class: "live-buttons" }));
  const chart = Chart.create(parent, { title: "Return", y: "of training episodes", height: 18 });
  const said = parent.appendChild(Live.element("p", { class: "live-said", role: "status" }));
  const shown = () => chosen.shown.split(",").filter((name) => name in methods);

  function offer() {
    buttons.replaceChildren();
    for (const name of groups[chosen.who].methods) {
      const press = () => (button.ariaPressed = shown().includes(name));
      const button = Live.button(buttons, methods[name].label, () => {
        const others = shown().filter((one) => one !== name);
        change("shown")((shown().includes(name) ? others : [...others, name]).join());
        press();
      });
      press();
    }
  }

  function draw() {
    const by_steps = chosen.x === "steps";
    const until = (list) => list.slice(0, chosen.at);
    const racers = shown().filter((name) => by_steps || methods[name].gradient_steps).map((name) => {
      const { label, style, gradient_steps, curves } = methods[name];
      const at = (i) => (i + 1) / points;
      const x = until(curves[0].mean).map((_, i) => by_steps ? (at(i) * steps) / 1000 : Math.log10(at(i) * gradient_steps));
      return { label, style: { ...style, x }, seeds: [], ...curves[tasks.indexOf(chosen.task)] };
    });
    const values = racers.flatMap(({ mean, seeds }) => [mean, ...seeds].flat()).filter(Number.isFinite);
    const x = by_steps ? "thousand environment steps" : "log10 of the actor's gradient steps";
    const [left, right] = by_steps ? [0, steps / 1000] : [0.9, 5.2];
    chart.set({ x, left, right, low: Math.min(...values), high: Math.max(...values) });
    const lines = racers.flatMap(({ label, style, mean, half, seeds }) => {
      const edge = (sign) => until(mean.map((y, i) => y + sign * half[i]));
      return [
        ...(racers.length < 3 ? [{ kind: "band", ...style, low: edge(-1), high: edge(1) }] : []),
        ...seeds.map((y) => ({ kind: "line", ...style, y: until(y), faint: true })),
        { kind: "line", ...style, y: until(mean), label },
      ];
    });
    const now = ({ mean }) => mean[chosen.at - 1];
    const ranks = racers.sort((a, b) => now(b) - now(a)).map((racer) => `${racer.label} ${Chart.short(now(racer))}`);
    said.textContent = `After ${share(chosen.at)} environment steps on ${chosen.task}: ${ranks.join(", ")}.`;
    chart.draw(lines, said.textContent);
  }

  offer();
  draw();
});

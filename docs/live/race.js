// The committed runs as a race: means, seeds, and intervals where they can be told apart; by steps, or gradient steps.
"use strict";

Live.figure("race", (parent, { methods, tasks, steps, points }) => {
  const FIRST = { figure3: "clip-0.2,trpo,vanilla-policy-gradient,a2c", table1: "clip-0.2,adaptive-kl-0.01,kl-10,unclipped" };
  const COLOURS = [0, 3, 5, 6, 1, 2, 4];
  const state = Live.state("race", { task: "Walker2d", who: "figure3", x: "steps", at: points, shown: FIRST.figure3 });
  const chosen = state.values;
  const controls = Live.group(parent, "Race");
  const change = (key) => (value) => {
    state.set(key, value);
    draw();
  };
  const choice = (label, key, options, act) => Live.choice(controls, { label, options, value: chosen[key] }, act || change(key));
  choice("Task", "task", tasks.map((task) => [task, task]));
  choice("Who", "who", [["figure3", "PPO and other methods"], ["table1", "objectives of PPO"]], (who) => {
    state.set("shown", FIRST[who]);
    change("who")(who);
    offer();
  });
  choice("Counted in", "x", [["steps", "environment steps"], ["gradient", "gradient steps of the actor"]]);
  const share = (at) => Math.round((at * steps) / points).toLocaleString("en");
  const slider = Live.range(controls, { label: "Run so far, steps", low: 1, high: points, step: 1, value: chosen.at, show: share }, change("at"));
  const buttons = Live.element("div", { class: "live-buttons" });
  parent.append(buttons);
  const chart = Chart.create(parent, { title: "Return", y: "of training episodes", height: 18 });
  const said = Live.element("p", { class: "live-said", role: "status" });
  parent.append(said);
  const names = () => Object.keys(methods).filter((name) => methods[name].grids.includes(chosen.who));
  const shown = () => names().filter((name) => chosen.shown.split(",").includes(name));

  let done = 0;
  const clock = Live.clock(parent, (seconds) => {
    done = Math.min(done + 8 * seconds, points);
    slider.set(Math.max(1, Math.round(done)));
    change("at")(slider.value);
    if (done === points) play(false);
  });
  function play(on) {
    said.ariaBusy = on; // a race is told at its end
    done = chosen.at < points ? chosen.at : 0;
    clock[on ? "start" : "stop"]();
    buttons.firstChild.textContent = on ? "Pause" : "Play";
  }

  function offer() {
    buttons.replaceChildren();
    Live.button(buttons, "Play", () => play(!clock.running)).className = "main";
    for (const name of names()) {
      const press = () => button.setAttribute("aria-pressed", shown().includes(name));
      const button = Live.button(buttons, methods[name].label, () => {
        const before = shown();
        change("shown")((before.includes(name) ? before.filter((other) => other !== name) : [...before, name]).join());
        press();
      });
      press();
    }
  }

  function draw() {
    const by_steps = chosen.x === "steps";
    const until = (list) => list.slice(0, chosen.at);
    const racers = shown().filter((name) => by_steps || methods[name].gradient_steps).map((name) => {
      const { label, gradient_steps, tasks: of } = methods[name];
      const x = Array.from({ length: points }, (_, i) => ((i + 1) / points) * (by_steps ? steps : gradient_steps));
      return { label, place: names().indexOf(name), x: by_steps ? x.map((at) => at / 1000) : x.map(Math.log10), moved: x[chosen.at - 1], seeds: [], ...of[tasks.indexOf(chosen.task)] };
    });
    const values = racers.flatMap(({ mean, seeds }) => [mean, ...seeds].flat()).filter(Number.isFinite);
    const places = racers.flatMap(({ x }) => x);
    chart.set({
      x: by_steps ? "thousand environment steps" : "gradient steps of the actor, as powers of ten",
      left: by_steps ? 0 : Math.min(...places),
      right: Math.max(...places),
      low: Math.min(...values),
      high: Math.max(...values),
    });
    const lines = racers.flatMap(({ label, place, x, mean, half, seeds }) => {
      const common = { x: until(x), series: COLOURS[place % 7], dashed: place > 6 };
      const edge = (sign) => until(mean.map((y, i) => y + sign * half[i]));
      return [
        ...(racers.length < 3 ? [{ kind: "band", ...common, low: edge(-1), high: edge(1) }] : []),
        ...seeds.map((y) => ({ kind: "line", ...common, y: until(y), faint: true })),
        { kind: "line", ...common, y: until(mean), label },
      ];
    });
    const now = ({ mean }) => mean[chosen.at - 1];
    const ranks = racers.sort((a, b) => now(b) - now(a)).map((racer) =>
      `${racer.label} ${Chart.short(now(racer))}` + (by_steps ? "" : ` with ${Math.round(racer.moved).toLocaleString("en")}`));
    const words = `After ${share(chosen.at)} environment steps on ${chosen.task}: ${ranks.join(", ")}.`;
    chart.draw(lines, words);
    said.textContent = words;
  }

  offer();
  draw();
});

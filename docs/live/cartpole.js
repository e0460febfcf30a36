// needs: ppo.js measures.js
// PPO learns to balance a pole before your eyes: carts, maps of the policy and of its values, and what every
// update did. All numbers come from ppo.js, epoch by epoch; sliders change the options that it reads.
"use strict";

Live.figure("cartpole", function (figure, data) {
  const { element, button } = Live;
  const [MOST_RUNS, SOLVED] = [3, 475]; // a run is solved by the mean of its last 100 episodes
  const [BUSY, LONGEST] = [0.7, 0.025]; // share, and seconds at once, that "fast" trains: the page stays smooth
  const [CELLS, WIDEST, FASTEST] = [28, 12, 3]; // of the maps: a side, degrees, radians per second
  const NUMBER = { clip: "epsilon", "kl-penalty": "beta", "quadratic-penalty": "epsilon" }; // what objectives read
  const names = ["objective", "epsilon", "beta", "learning_rate", "epochs", "gamma", "gae_lambda"];
  const recipe = Object.fromEntries(names.map((name) => [name, PPO.CARTPOLE[name]]));
  const { values, set } = Live.state("cartpole", { ...recipe, speed: "watch", seed: 0 });
  const surrogate = () => PPO.surrogates[values.objective.replace("-", "_")];
  if (!surrogate()) values.objective = "clip";
  const whole = (number) => number.toLocaleString("en");
  const { short } = Chart;

  // ---- Runs: a learner, its options, and what each of its updates did.
  const runs = [];
  let run = null; // the one that trains, and that the sliders change

  function begin() {
    if (runs.length === MOST_RUNS) runs.pop();
    const options = { ...PPO.CARTPOLE };
    run = { options, seed: values.seed, learner: PPO.new_learner(options, values.seed), history: {}, solved: 0 };
    for (const name of ["steps", "mean", "recent", "explained", ...KEPT]) run.history[name] = [];
    runs.push(run);
    heed();
  }

  const KEPT = ["kl", "approx_kl", "clip_fraction", "without_gradient", "entropy"];
  const mean_return = ({ learner }, last = 100) => PPO.mean(learner.returns.slice(-last));

  function heed() { // what the sliders say, from the next minibatch on
    run.words = Object.fromEntries(names.map((name) => [name, values[name]]));
    Object.assign(run.options, run.words, { objective: values.objective.replace("-", "_") });
  }

  // One epoch; the first one of an update collects its rollout before. Returns whether the update is complete.
  function advance() {
    const { learner, options, history } = run;
    if (learner.steps >= options.steps) return true;
    const remaining = 1 - learner.steps / options.steps;
    run.update ??= PPO.update(learner, PPO.collect(learner, options), options, remaining);
    const { value, done } = run.update.next();
    if (!done) {
      const { epoch, batch } = value;
      if (epoch === 1) run.explained = Measures.explained_variance(batch.value, batch.target);
      run.seen = { epoch, ...Measures.of(learner.policy, batch, options.epsilon) };
      if (epoch < options.epochs) return false;
      run.update.next(); // to its end
    }
    run.update = null;
    const seen = { ...run.seen, ...run, steps: learner.steps, mean: mean_return(run), recent: mean_return(run, 10) };
    for (const name in history) history[name].push(seen[name]);
    if (!run.solved && learner.returns.length >= 100 && seen.mean >= SOLVED) {
      run.solved = learner.steps;
      if (values.speed === "fast") hasten("watch");
    }
    return true;
  }

  // ---- Eight carts that the policy steers. Nothing is learned from them, so they may be pushed.
  const random = PPO.random_numbers(12345);
  const fresh = () => ({ state: PPO.cartpole_reset(random), age: 0 });
  const carts = Array.from({ length: 8 }, fresh);

  function move() {
    const { policy, observations } = run.learner;
    for (const cart of carts) {
      const log_p = PPO.log_probabilities(policy, PPO.normalise(cart.state, observations));
      const { state, terminated } = PPO.cartpole_step(cart.state, random() < Math.exp(log_p[1]) ? 1 : 0);
      const age = cart.age + 1;
      Object.assign(cart, terminated || age >= PPO.TIME_LIMIT ? fresh() : { state, age });
    }
  }

  function push(direction, pushed = carts) {
    for (const cart of pushed) cart.state[1] += direction; // 1 m/s
    draw_carts();
  }

  // ---- Controls
  const row = (kind, parent = figure) => parent.appendChild(element("div", { class: kind }));
  const buttons = row("live-buttons");
  const play = button(buttons, "Play", () => (clock.running ? pause() : start()));
  play.className = "main";
  button(buttons, "One epoch", () => step(advance));
  button(buttons, "One update", () => step(() => { while (!advance()); }));
  const speeds = row("live-buttons", buttons);
  const speed = {
    watch: button(speeds, "Watch", () => hasten("watch"), "About one update a second"),
    fast: button(speeds, "Fast", () => { hasten("fast"); start(); }),
  };
  const beside = button(buttons, "New run beside", () => { begin(); draw(); });
  button(buttons, "Break it", () => { begin(); adjust({ learning_rate: 5e-3, objective: "unclipped" }); draw(); },
    "A new run with a learning rate of 0.005 and without the clip");
  button(buttons, "Start again", () => { runs.length = 0; begin(); draw(); });

  function hasten(name) {
    set("speed", name);
    for (const each in speed) speed[each].setAttribute("aria-pressed", each === name);
  }

  const say = Live.speaker(figure);
  say("Press Play: PPO learns in this page. Nothing is loaded, nothing leaves it.");
  const scene = row("live-row two");
  const settings = Live.group(figure, "Settings of the run: they act from the next minibatch on");
  const sliders = {
    objective: Live.choice(settings, { label: "Objective", value: values.objective, options: [
      ["clip", "clip (PPO)"], ["unclipped", "no clip"], ["kl-penalty", "KL penalty"], ["quadratic-penalty", "SPO"],
    ] }, (value) => changed("objective", value)),
  };
  for (const [name, label, low, high, step, show = String] of [
    ["epsilon", "Clip range ε", 0.02, 0.6, 0.02],
    ["beta", "KL coefficient β", 0.1, 30, "log", (value) => `${value} per nat`],
    ["learning_rate", "Learning rate", 1e-4, 1e-2, "log"],
    ["epochs", "Epochs K", 1, 30, 1],
    ["gamma", "Discount γ", 0.8, 0.999, 0.001],
    ["gae_lambda", "GAE λ", 0, 1, 0.02],
    ["seed", "Seed of the next run", 0, 19, 1],
  ]) {
    const of = { label, low, high, step, log: step === "log", show, value: values[name] };
    sliders[name] = Live.range(settings, of, (value) => changed(name, value));
  }
  button(settings, "Recipe's settings", () => adjust(recipe));

  function changed(name, value) {
    set(name, value);
    heed();
    draw_words();
  }

  function adjust(to) {
    for (const name in to) {
      sliders[name].set(to[name]);
      changed(name, to[name]);
    }
  }

  // ---- What is seen
  const stage = element("div", { class: "carts", tabindex: "0", role: "group",
    "aria-label": "Eight carts that the policy steers. Arrow keys push them." });
  const canvas = stage.appendChild(element("canvas", { "aria-hidden": "true" }));
  const theatre = row("", scene);
  theatre.append(stage);
  const pushes = row("live-buttons", theatre);
  button(pushes, "← Push", () => push(-1));
  button(pushes, "Push →", () => push(1));
  pushes.append("or click a cart, or press an arrow key on them");

  const [middle, maps, below] = [1, 2, 3].map(() => row("live-row two"));
  const over_steps = { x: "environment steps", left: 0 };
  const over_states = { y: "angular velocity, rad/s", x: "angle, degrees; cart in the middle, at rest",
    left: -WIDEST, right: WIDEST, low: -FASTEST, high: FASTEST, height: 11 };
  const chart = (parent, title, ...options) => Chart.create(parent, Object.assign({ title }, ...options));
  const returns = chart(scene, "Return", over_steps,
    { y: "mean of 100 episodes (faint: 10)", low: 0, high: 520, height: 13 });
  const ratios = chart(middle, "Ratio", { y: "share of the samples", x: "π new / π old", left: 0, right: 2, low: 0 });
  const divergence = chart(middle, "KL(old ‖ new)", over_steps, { y: "nats, after each update", log: true });
  const preference = chart(maps, "P(push right)", over_states);
  const worth = chart(maps, "Value", over_states);
  const clipped = chart(below, "Clip fractions", over_steps, { y: "share of the samples", low: 0 });
  const shape = chart(below, "Entropy and explained variance", over_steps, { low: -0.2, high: 1.05 });
  const table = element("table");
  const command = element("pre", { class: "wrapped", tabindex: "0" });
  const code = element("div", { class: "live-row two" });
  const details = (name, ...inside) => element("details", {}, element("summary", {}, name), ...inside);
  figure.append(
    element("div", { class: "runs", tabindex: "0", role: "region", "aria-label": "The runs in numbers" }, table),
    details("Take this run to Python", command,
      "The same algorithm and options; other random numbers, so other digits."),
    details("Show me the code", code, data ? `Held equal, with all gradients, by ${data.test}.` : ""),
  );

  const colour = {};
  function resize() {
    canvas.width = stage.clientWidth * devicePixelRatio;
    canvas.height = stage.clientHeight * devicePixelRatio;
    const css = getComputedStyle(stage);
    for (const name of ["soft", "grid", "c0", "c1"]) colour[name] = css.getPropertyValue(`--${name}`).trim();
    draw_carts();
  }

  function draw_carts() {
    const context = canvas.getContext("2d");
    const [unit, wide, high] = [devicePixelRatio, canvas.width / 4, canvas.height / 2]; // four carts in a row
    const tilt = carts.map(({ state }) => Math.abs(state[2]));
    const line = (x, y, to_x, to_y, stroke, width) => {
      context.strokeStyle = stroke;
      context.lineWidth = width * unit;
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(to_x, to_y);
      context.stroke();
    };
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.lineCap = "round";
    context.fillStyle = colour.soft;
    context.font = `${12 * unit}px system-ui, sans-serif`;
    carts.forEach(({ state: [x, , theta], age }, i) => {
      const [left, ground] = [(i % 4) * wide, (Math.floor(i / 4) + 0.82) * high];
      const [centre, top, long] = [left + (0.5 + (0.42 * x) / 2.4) * wide, ground - 8 * unit, 0.6 * high];
      line(left + 0.08 * wide, ground, left + 0.92 * wide, ground, colour.grid, 2);
      line(centre - 11 * unit, ground - 5 * unit, centre + 11 * unit, ground - 5 * unit, colour.soft, 9);
      line(centre, top, centre + long * Math.sin(theta), top - long * Math.cos(theta),
        tilt[i] === Math.max(...tilt) ? colour.c1 : colour.c0, 4);
      context.fillText(age, left + 0.08 * wide, ground + 0.15 * high);
    });
  }

  function draw_ratios() {
    const { seen = { ratio: [], epoch: 0, clip_fraction: 0 }, options } = run;
    const bins = 40;
    const edges = Array.from({ length: bins + 1 }, (_, i) => (2 * i) / bins);
    const heights = new Array(bins).fill(0);
    for (const r of seen.ratio) heights[Math.min(bins - 1, Math.floor((r / 2) * bins))] += 1 / seen.ratio.length;
    ratios.set({ high: Math.max(0.3, Math.min(1, 1.1 * Math.max(...heights))) });
    const label = `after epoch ${seen.epoch} of ${options.epochs}`;
    ratios.draw([
      { kind: "bars", edges, heights, series: runs.indexOf(run), label },
      { kind: "level", axis: "x", at: 1 - options.epsilon, label: "1 − ε" },
      { kind: "level", axis: "x", at: 1 + options.epsilon, label: "1 + ε" },
    ], `${short(100 * seen.clip_fraction)} % of the samples are outside of 1 ± ${options.epsilon}`);
  }

  function draw_maps() {
    const { policy, observations } = run.learner;
    const at = (i) => ((i + 0.5) / CELLS) * 2 - 1;
    const states = Array.from({ length: CELLS ** 2 }, (_, i) =>
      PPO.normalise([0, 0, at(i % CELLS) * PPO.FALLEN, -at(Math.floor(i / CELLS)) * FASTEST], observations));
    const dots = { kind: "points", series: 4, label: "the carts",
      x: carts.map(({ state }) => (state[2] * 180) / Math.PI), y: carts.map(({ state }) => state[3]) };
    for (const [map, values, ends] of [
      [preference, states.map((obs) => Math.exp(PPO.log_probabilities(policy, obs)[1])), [0, 1]],
      [worth, states.map((obs) => PPO.value_of(policy, obs))],
    ]) {
      const [low, high] = ends || [Math.min(...values), Math.max(...values)];
      const [from, to] = [short(low), short(high)];
      map.draw([{ kind: "heat", values, columns: CELLS, low, high, from, to }, dots],
        `from ${from} to ${to}; ${short(values.at(-CELLS))} where the pole falls to the left, ` +
        `${short(values[CELLS - 1])} to the right`);
    }
  }

  function draw_curves() {
    const series = runs.indexOf(run);
    const line = (name, label, dashed, of = run) => ({
      kind: "line", x: of.history.steps, y: of.history[name], series: dashed ? 6 : runs.indexOf(of), label, dashed,
    });
    const all = (name, mine) => runs.map((each, i) =>
      line(name, each === run && mine ? mine : `run ${i + 1}`, false, each));
    const last = (name) => short(run.history[name].at(-1));
    const right = Math.max(60_000, ...runs.map(({ learner }) => learner.steps));
    for (const each of [returns, divergence, clipped, shape]) each.set({ right });
    returns.draw([
      { kind: "level", axis: "y", at: SOLVED, label: "solved" },
      ...all("recent").map((each) => ({ ...each, faint: true, label: "" })),
      ...all("mean"),
    ], `run ${series + 1} is at ${last("mean")}`);
    divergence.draw([...all("kl", "exact"), line("approx_kl", "k3, from samples", true)],
      `after the last update ${last("kl")} exact, ${last("approx_kl")} by k3`);
    const without = line("without_gradient", "where the clip has no gradient", true);
    clipped.draw([line("clip_fraction", "outside 1 ± ε"), without],
      `${last("clip_fraction")} outside, ${last("without_gradient")} without a gradient`);
    shape.draw([line("entropy", "entropy, nats"), line("explained", "explained variance", true)],
      `entropy ${last("entropy")}, explained variance ${last("explained")}`);
  }

  // How the library's command line has it: what differs from the preset.
  function words_of({ words }) {
    const { objective } = words;
    const number = NUMBER[objective];
    const said = names.slice(3).filter((name) => words[name] !== recipe[name])
      .map((name) => `--${name.replace("_", "-")} ${words[name]}`);
    if (objective === "clip" && words.epsilon === recipe.epsilon) return said;
    return [`--objective ${objective}${number ? `:${number}=${words[number]}` : ""}`, ...said];
  }

  function draw_words() {
    const line = (...cells) => element("tr", {}, ...cells);
    const rows = runs.map((each, i) => {
      const choose = () => {
        run = each;
        adjust(each.words);
        draw();
      };
      const { history: { kl }, learner, solved } = each;
      const pressed = String(each === run);
      const cells = [words_of(each).join(" ") || "nothing", whole(learner.steps), short(mean_return(each)),
        short(Math.max(...kl)), solved ? whole(solved) : "–"];
      const name = element("button", { type: "button", "aria-pressed": pressed, onclick: choose }, `Run ${i + 1}`);
      const head = element("th", { scope: "row", class: `s${i}` }, name);
      return line(head, ...cells.map((cell) => element("td", {}, cell)));
    });
    const head = ["Run", "Differs from the recipe in", "Steps", "Return", "Largest KL", "Solved after"];
    const choices = () => [...table.querySelectorAll("button")];
    const focused = choices().indexOf(document.activeElement);
    table.replaceChildren(line(...head.map((name) => element("th", { scope: "col" }, name))), ...rows);
    if (focused >= 0) choices()[focused]?.focus();
    for (const name of ["epsilon", "beta"]) sliders[name].input.disabled = NUMBER[values.objective] !== name;
    beside.disabled = runs.length === MOST_RUNS;
    command.textContent = ["proximo train CartPole-v1 --hidden 16 16 --seed", run.seed, ...words_of(run)].join(" ");
    if (code.dataset.shown === values.objective) return;
    code.dataset.shown = values.objective;
    const side = (file, text) => element("div", {}, file, element("pre", { tabindex: "0" }, text));
    code.replaceChildren(
      data ? side(data.file, data.objectives[values.objective]) : "",
      side("docs/live/ppo.js", String(surrogate()).replace(/^ {4}/gm, "")),
    );
  }

  function draw() {
    for (const part of [draw_carts, draw_ratios, draw_maps, draw_curves, draw_words]) part();
  }

  function tell() {
    const { learner, history, seen, solved } = run;
    if (!seen) return;
    const end = solved ? ` Solved after ${whole(solved)} steps.` : "";
    const found = `mean return ${short(mean_return(run))}, KL ${short(seen.kl)}.${end}`;
    say(`Update ${history.steps.length}, ${whole(learner.steps)} steps: ${found}`);
  }

  // ---- Time
  const owed = { move: 0, draw: 0 }; // seconds

  const clock = Live.clock(figure, function (seconds) {
    for (const name in owed) owed[name] += seconds;
    for (; owed.move >= 0.02; owed.move -= 0.02) move();
    draw_carts();
    const fast = values.speed === "fast";
    const until = performance.now() + 1000 * Math.min(BUSY * seconds, LONGEST);
    while (fast && values.speed === "fast" && performance.now() < until) advance();
    if (owed.draw < (fast ? 0.2 : 1 / (run.options.epochs + 1))) return;
    owed.draw = 0;
    const complete = fast || advance();
    draw_ratios();
    draw_maps();
    if (!complete) return;
    draw_curves();
    draw_words();
    tell();
  });

  function start() {
    play.textContent = "Pause";
    clock.start();
  }

  function pause() {
    play.textContent = "Play";
    clock.stop();
  }

  function step(act) {
    pause();
    act();
    for (let i = 0; i < 25; i++) move(); // half a second
    draw();
    tell();
  }

  stage.addEventListener("keydown", (event) => {
    const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!direction) return;
    event.preventDefault();
    push(direction);
  });
  canvas.addEventListener("click", ({ offsetX, offsetY }) => {
    const [column, line] = [(offsetX / stage.clientWidth) * 4, (offsetY / stage.clientHeight) * 2];
    push(column % 1 < 0.5 ? 1 : -1, [carts[Math.floor(line) * 4 + Math.floor(column)]]); // away from the pointer
  });
  begin();
  hasten(values.speed);
  draw();
  new ResizeObserver(resize).observe(stage);
  Live.themed(resize);
});

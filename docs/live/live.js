// What all live figures share: their start, controls, state in the address, and words for screen readers.
//
//   Live.figure("NAME", function (element, data) { ... })
//       Called once for each <figure class="live" data-figure="NAME"> when the page is read. `element` is an
//       empty <div> in it, before the caption; `data` is the JSON of <script type="application/json"
//       id="figure-NAME">, or null. The static picture goes away once the function has returned; if it
//       throws, the picture stays.
//   Live.element("p", { class: "x", onclick: f }, "text", child, ...)    makes an element
//   Live.range(parent, { label, low, high, step, value, log, show }, change) -> { value, set(value), input }
//       A slider. `show(value)` gives its words, units included; `log`: equal steps are equal factors.
//   Live.choice(parent, { label, options: [[value, words], ...], value }, change) -> { value, set(value) }
//   Live.button(parent, label, act, title) -> the <button>
//   Live.group(parent, label) -> a <fieldset> for controls
//   Live.state("NAME", { epsilon: 0.2, ... }) -> { values, set(key, value) }
//       Numbers and words kept in the address: #NAME.epsilon=0.1&... holds what differs from the defaults.
//   Live.speaker(element) -> say(words)      a polite live region, changed at most every 5 seconds
//   Live.clock(element, frame) -> { running, start(), stop() }
//       Calls frame(seconds since the last one) for as long as the element is on the screen.
//   Live.still()                             whether the reader asked for no motion: start nothing yourself
//   Live.themed(redraw)                      called when the page turns dark or light
"use strict";

const Live = (function () {
  const figures = new Map();
  const PAUSE = 5000; // milliseconds between two announcements: a listener must be able to follow
  let count = 0;

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...children);
    return made;
  }

  function figure(name, build) {
    figures.set(name, build);
    if (document.readyState !== "loading") begin(name);
  }

  function begin(name) {
    for (const place of document.querySelectorAll(`figure.live[data-figure="${name}"]:not([data-begun])`)) {
      place.setAttribute("data-begun", "");
      const body = element("div", { class: "live-body" });
      place.insertBefore(body, place.querySelector(":scope > figcaption"));
      try {
        const data = document.getElementById(`figure-${name}`);
        figures.get(name)(body, data && JSON.parse(data.textContent));
        place.classList.add("live-ready"); // live.css hides the static picture
      } catch (error) {
        body.remove();
        console.error(error);
      }
    }
  }

  document.addEventListener("DOMContentLoaded", () => [...figures.keys()].forEach(begin));

  function labelled(parent, label, control, output) {
    control.id = `live-${++count}`;
    const words = element("label", { for: control.id }, label);
    if (output) output.setAttribute("for", control.id);
    parent.append(element("div", { class: "live-control" }, words, output || "", control));
  }

  function range(parent, options, change) {
    const { label, low, high, step, log = false, show = String } = options;
    const place = (value) => (log ? Math.log(value) : value);
    const digits = (value) => Number(value.toPrecision(log ? 2 : 6));
    const output = element("output");
    const input = element("input", {
      type: "range",
      min: place(low),
      max: place(high),
      step: log ? (place(high) - place(low)) / 60 : step,
    });
    const control = {
      input,
      value: options.value,
      set(value) {
        control.value = value;
        input.value = place(value);
        output.textContent = show(value);
        input.setAttribute("aria-valuetext", show(value));
      },
    };
    input.addEventListener("input", () => {
      const value = Number(input.value);
      control.set(digits(log ? Math.exp(value) : value));
      change(control.value);
    });
    labelled(parent, label, input, output);
    control.set(options.value);
    return control;
  }

  function choice(parent, options, change) {
    const select = element("select");
    for (const [value, words] of options.options) select.append(element("option", { value }, words));
    const control = {
      value: options.value,
      set(value) {
        select.value = control.value = value;
      },
    };
    select.addEventListener("change", () => change((control.value = select.value)));
    labelled(parent, options.label, select);
    control.set(options.value);
    return control;
  }

  function button(parent, label, act, title) {
    const made = element("button", { type: "button", title, onclick: act }, label);
    parent.append(made);
    return made;
  }

  function group(parent, label) {
    const made = element("fieldset", {}, element("legend", {}, label));
    parent.append(made);
    return made;
  }

  function state(name, defaults) {
    const values = { ...defaults };
    const address = () => new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
    for (const [key, value] of address()) {
      const own = key.slice(name.length + 1);
      if (!key.startsWith(`${name}.`) || !(own in defaults)) continue;
      const read = typeof defaults[own] === "number" ? Number(value) : value;
      if (!Number.isNaN(read)) values[own] = read;
    }
    function set(key, value) {
      values[key] = value;
      const pairs = address();
      if (value === defaults[key]) pairs.delete(`${name}.${key}`);
      else pairs.set(`${name}.${key}`, value);
      // An anchor is left alone until there is something to say.
      if (String(pairs) || location.hash.includes("=")) history.replaceState(null, "", `#${pairs}`);
    }
    return { values, set };
  }

  function speaker(parent) {
    const region = element("p", { class: "live-said", role: "status" });
    parent.append(region);
    let last = -PAUSE;
    let waiting = null;
    return function say(words) {
      if (waiting === null) {
        setTimeout(() => {
          region.textContent = waiting;
          last = performance.now();
          waiting = null;
        }, Math.max(0, last + PAUSE - performance.now()));
      }
      waiting = words;
    };
  }

  function clock(watched, frame) {
    const made = { running: false, start, stop };
    let seen = true;
    let request = 0;
    let last = null;
    function tick(now) {
      request = requestAnimationFrame(tick);
      frame(last === null ? 0 : Math.min((now - last) / 1000, 0.1));
      last = now;
    }
    function turn() {
      cancelAnimationFrame(request);
      last = null;
      if (made.running && seen) request = requestAnimationFrame(tick);
    }
    function start() {
      made.running = true;
      turn();
    }
    function stop() {
      made.running = false;
      turn();
    }
    new IntersectionObserver((entries) => {
      const now = entries[entries.length - 1].isIntersecting;
      if (now !== seen) {
        seen = now;
        turn();
      }
    }).observe(watched);
    return made;
  }

  const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  const redraws = [];
  const redraw = () => redraws.forEach((each) => each());
  new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  const themed = (each) => redraws.push(each);

  return { figure, element, range, choice, button, group, state, speaker, clock, still, themed };
})();

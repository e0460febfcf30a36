// Small charts: SVG for shapes, a canvas for heat maps, HTML for words, so that letters keep their size on a
// telephone. Colours are the classes s0 to s6 of live.css, as in `proximo report`.
//
//   const chart = Chart.create(parent, { title, x, y, height, low, high, left, right, log })
//       title       what it shows, a few words; x and y name the axes with their units
//       height      in rem, 9 unless given
//       low, high   where the y axis ends, and left, right for x; around the data where not given
//       log         the y axis shows powers of ten
//   chart.draw(shapes, words)
//       words       one sentence that says what is seen: what a screen reader tells
//       shapes      a list, drawn in its order, of
//         { kind: "line", x: [..], y: [..], series, label, faint, dashed }      gaps where y is not finite
//         { kind: "band", x: [..], low: [..], high: [..], series }
//         { kind: "points", x: [..], y: [..], series, label }
//         { kind: "bars", edges: [n + 1], heights: [n], series, label }          a histogram
//         { kind: "level", axis: "x" or "y", at, label }                         a line across, with its name
//         { kind: "heat", values: [rows * columns], columns, low, high, from, to }
//             over all of the chart, first row at the top; from and to say what its colours mean
//   chart.set({ low: 0, ... })   changes what was given to create
//   Chart.short(1234.5) -> "1,235"     a number as a person would write it
"use strict";

const Chart = (function () {
  const SIZE = 1000; // of the drawing, in either direction: a tenth of a percent is finer than a pixel
  const element = (...made) => Live.element(...made); // live.js may be read later

  function short(value) {
    if (!Number.isFinite(value)) return "–";
    const size = Math.abs(value);
    if (size === 0) return "0";
    if (size >= 1e9 || size < 1e-4) return value.toExponential(1);
    const digits = Math.max(0, (size >= 1 ? 2 : 1) - Math.floor(Math.log10(size)));
    return value.toLocaleString("en", { maximumFractionDigits: digits });
  }

  function ticks(low, high, most) {
    if (!(high > low)) return [];
    const rough = (high - low) / most;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10, 20].map((factor) => factor * power).find((size) => size >= rough);
    const found = [];
    const last = high / step + 1e-9;
    for (let i = Math.ceil(low / step - 1e-9); i <= last; i++) found.push(i * step || 0); // never -0
    return found;
  }

  function powers(low, high) {
    const found = [];
    for (let i = Math.ceil(Math.log10(low)); i <= Math.log10(high); i++) found.push(10 ** i);
    return found;
  }

  function tickLabel(value, rows) {
    const step = rows.length > 1 ? Math.abs(rows[1] - rows[0]) : Math.abs(value);
    if (Math.abs(value) >= 10000) return `${Number((value / 1000).toPrecision(4))}k`;
    const digits = Math.min(8, Math.max(0, -Math.floor(Math.log10(step || 1) + 1e-9)));
    return value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });
  }

  // The smallest and largest of the finite numbers that the shapes have on an axis.
  function reach(shapes, axis, log) {
    let low = Infinity;
    let high = -Infinity;
    const names = axis === "x" ? ["x", "edges"] : ["y", "low", "high", "heights"];
    for (const shape of shapes) {
      const lists = names.map((name) => shape[name]).filter((list) => list && list.length);
      if (shape.kind === "level" && shape.axis === axis) lists.push([shape.at]);
      if (axis === "y" && shape.kind === "bars") lists.push([0]);
      for (const list of lists) {
        for (const value of list) {
          if (!Number.isFinite(value) || (log && value <= 0)) continue;
          if (value < low) low = value;
          if (value > high) high = value;
        }
      }
    }
    return low > high ? [log ? 0.1 : 0, 1] : [low, high];
  }

  function ends(shapes, options) {
    let [left, right] = reach(shapes, "x", false);
    let [low, high] = reach(shapes, "y", options.log);
    if (options.log) {
      low = 10 ** Math.floor(Math.log10(low));
      high = Math.max(10 ** Math.ceil(Math.log10(high)), 10 * low);
    } else {
      const room = 0.05 * (high - low) || 0.5 * Math.abs(high) || 0.5;
      if (low < 0 || low >= 0.4 * high) low -= room;
      else low = 0;
      high += room;
    }
    if (left === right) right = left + 1;
    const chosen = { left, right, low, high };
    for (const name of Object.keys(chosen)) if (options[name] !== undefined) chosen[name] = options[name];
    return chosen;
  }

  function create(parent, options) {
    const title = element("p", { class: "chart-title" }, element("b", {}, options.title), ` ${options.y || ""}`);
    const legend = element("ul", { class: "chart-legend" });
    const plot = element("div", { class: "chart-plot", style: `height:${options.height || 9}rem` });
    const below = element("p", { class: "chart-below" });
    parent.append(element("div", { class: "chart" }, title, legend, plot, below));
    let last = null;

    function draw(shapes, words) {
      last = [shapes, words];
      below.textContent = options.x || "";
      const { left, right, low, high } = ends(shapes, options);
      const height = options.log ? Math.log10 : (value) => value;
      const x = (value) => ((value - left) / (right - left)) * SIZE;
      const y = (value) => {
        const share = (height(high) - height(value)) / (height(high) - height(low));
        return Math.min(2, Math.max(-1, Number.isNaN(share) ? 2 : share)) * SIZE;
      };
      const rows = options.log ? powers(low, high) : ticks(low, high, 4);
      const columns = ticks(left, right, 4);
      const paths = [path("grid", rows.map((row) => `M0 ${y(row).toFixed(1)}H${SIZE}`).join(""))];
      for (const shape of shapes) if (drawers[shape.kind]) paths.push(drawers[shape.kind](shape, x, y));
      const svg = element("div");
      svg.innerHTML =
        `<svg viewBox="0 0 ${SIZE} ${SIZE}" preserveAspectRatio="none" role="img">${paths.join("")}</svg>`;
      svg.firstChild.setAttribute("aria-label", `${options.title}: ${words || ""}`);
      const heat = shapes.find((shape) => shape.kind === "heat");
      plot.replaceChildren(
        ...(heat ? [heatMap(heat, plot)] : []),
        svg.firstChild,
        ...rows.map((row) => word("y", "top", y(row), options.log ? short(row) : tickLabel(row, rows))),
        ...columns.map((column) => word("x", "left", x(column), tickLabel(column, columns))),
        ...shapes.filter((shape) => shape.kind === "level" && shape.label).map((shape) =>
          shape.axis === "x"
            ? word("mx", "left", x(shape.at), shape.label)
            : word("my", "top", y(shape.at), shape.label),
        ),
      );
      const named = shapes.filter((shape) => shape.label && shape.kind !== "level");
      legend.replaceChildren(...(heat ? [scale(heat)] : []), ...named.map(key));
    }

    Live.themed(() => last && plot.querySelector("canvas") && draw(...last));
    return { draw, set: (changed) => Object.assign(options, changed) };
  }

  const style = (shape) => `s${(shape.series || 0) % 7}${shape.dashed ? " dashed" : ""}`;
  const path = (kind, d) => `<path class="${kind}" d="${d}"/>`;

  function points(xs, ys, x, y) {
    let d = "";
    let open = false;
    for (let i = 0; i < xs.length; i++) {
      const known = Number.isFinite(ys[i]);
      if (known) d += `${open ? "L" : "M"}${x(xs[i]).toFixed(1)} ${y(ys[i]).toFixed(1)}`;
      if (known && !open && !Number.isFinite(ys[i + 1])) d += "h.1"; // one alone is a dot
      open = known;
    }
    return d;
  }

  const drawers = {
    line: (shape, x, y) =>
      path(`${shape.faint ? "faint" : "line"} ${style(shape)}`, points(shape.x, shape.y, x, y)),
    band(shape, x, y) {
      const back = points([...shape.x].reverse(), [...shape.low].reverse(), x, y);
      return path(`band ${style(shape)}`, `${points(shape.x, shape.high, x, y)}${back.replace("M", "L")}Z`);
    },
    points: (shape, x, y) =>
      path(`dots ${style(shape)}`, Array.from(shape.x, (at, i) =>
        Number.isFinite(shape.y[i]) ? `M${x(at).toFixed(1)} ${y(shape.y[i]).toFixed(1)}h.1` : "").join("")),
    bars: (shape, x, y) =>
      path(`bars ${style(shape)}`, Array.from(shape.heights, (height, i) => {
        const [a, b] = [x(shape.edges[i]), x(shape.edges[i + 1])];
        return height ? `M${a.toFixed(1)} ${SIZE}V${y(height).toFixed(1)}H${b.toFixed(1)}V${SIZE}Z` : "";
      }).join("")),
    level: ({ axis, at }, x, y) =>
      path("mark", axis === "x" ? `M${x(at).toFixed(1)} 0V${SIZE}` : `M0 ${y(at).toFixed(1)}H${SIZE}`),
  };

  function word(kind, side, place, text) {
    return element("i", { class: kind, "aria-hidden": "true", style: `${side}:${place / (SIZE / 100)}%` }, text);
  }

  function key(shape) {
    const kind = shape.kind === "bars" ? "bars" : shape.kind === "points" ? "dots" : "line";
    const made = element("li");
    const d = kind === "bars" ? "M4 10V2H18V10Z" : kind === "dots" ? "M11 5h.1" : "M0 5H22";
    made.innerHTML = `<svg viewBox="0 0 22 10" aria-hidden="true">${path(`${kind} ${style(shape)}`, d)}</svg>`;
    made.append(shape.label);
    return made;
  }

  const scale = (heat) =>
    element("li", { class: "chart-scale" }, heat.from, element("span", { "aria-hidden": "true" }), heat.to);

  // From the colour of `low` over that of the middle to that of `high`, as live.css has them.
  function heatMap({ values, columns, low, high }, plot) {
    const css = getComputedStyle(plot);
    const stops = ["low", "mid", "high"].map((name) => {
      const digits = css.getPropertyValue(`--heat-${name}`).trim().slice(1);
      return [0, 2, 4].map((at) => parseInt(digits.slice(at, at + 2), 16));
    });
    const canvas = element("canvas", { "aria-hidden": "true" });
    canvas.width = columns;
    canvas.height = values.length / columns;
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    for (let i = 0; i < values.length; i++) {
      const share = Math.min(1, Math.max(0, (values[i] - low) / (high - low || 1))) * 2;
      const first = share < 1 ? 0 : 1;
      for (let c = 0; c < 3; c++) {
        image.data[4 * i + c] = stops[first][c] + (stops[first + 1][c] - stops[first][c]) * (share - first);
      }
      image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    return canvas;
  }

  return { create, short };
})();

// Loss and gradient norm over the optimiser steps of a run.

const phases = report.phases || [];
const phaseName = (p) => (p.control ? `control, iteration ${p.iteration}` : p.iteration ? `iteration ${p.iteration}` : "BC");

function training() {
  const steps = phases.map((p) => p.before + (p.points.length ? p.points[p.points.length - 1][0] : 0));
  if (isEval || !phases.length) return null;
  const last = Math.max(...steps);
  const controlled = phases.some((p) => p.control);
  const entries = [[report.method || "run", "c-main", "line"], ...(controlled ? [["control", "c-control", "line"]] : [])];
  const card = (title, at, name) => {
    const series = [...phases].sort((a, b) => b.control - a.control).map((p) => ({ name: phaseName(p), colour: p.control ? "c-control" : "c-main",
      points: p.points.filter((point) => known(point[at])).map((point) => [p.before + point[0], point[at]]) }));
    return series.some((s) => s.points.length) && h("div", { class: "card" }, h("h3", {}, title), legend(entries),
      lines({ series, last, marks: phases.filter((p) => !p.control).map((p) => [p.before, p.iteration ? `${p.iteration}` : "BC"]), name, height: 240 }));
  };
  return section("training", "Loss and gradient", "Of each learning phase, over the optimiser steps of the run; the control goes on from behavioural cloning. A line down marks where a phase begins.",
    h("div", { class: "columns" }, card("Loss, nats a token", 1, "Loss over optimiser steps"), card("Gradient norm before clipping", 2, "Gradient norm over optimiser steps")));
}

/** About so many round numbers from low to high. */
function rounds(low, high, about) {
  const raw = (high - low) / about || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find((n) => n * power >= raw) || 10);
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9 && found.length < 40; n++) found.push(Number((n * step).toPrecision(12)));
  return found;
}

/** How heights are read: evenly, or by powers of ten where they differ too much for that. */
function heights(values) {
  const positive = values.every((v) => v > 0), low = Math.min(...values), high = Math.max(...values);
  if (positive && high / low > 100) {
    const [from, to] = [Math.floor(Math.log10(low)), Math.max(Math.ceil(Math.log10(high)), Math.floor(Math.log10(low)) + 1)];
    const every = Math.ceil((to - from) / 6), ticks = [];
    for (let n = from; n <= to; n += every) ticks.push(10 ** n);
    return { ticks, at: (v) => (Math.log10(v) - from) / (to - from) };
  }
  const ticks = rounds(Math.min(0, low), Math.max(high, low < 0 ? 0 : 1e-9), 4);
  const bottom = Math.min(0, low), top = Math.max(high, ticks[ticks.length - 1]);
  return { ticks, at: (v) => (v - bottom) / (top - bottom || 1) };
}

/** Lines over steps: series: [{name, colour, points: [[step, value]]}]; marks: [[step, label]]. */
function lines({ series, last, marks, name, height }) {
  const { ticks, at } = heights(series.flatMap((s) => s.points.map((point) => point[1])));
  return chart(height, (wide) => {
    const left = 52, right = 12, above = 22, below = 46, inner = wide - left - right, tall = height - above - below;
    const x = (step) => left + inner * (step / last), y = (value) => above + tall * (1 - Math.max(0, Math.min(1, at(value))));
    const root = svg("svg", { viewBox: `0 0 ${wide} ${height}`, height, role: "group", "aria-label": name });
    for (const tick of ticks) root.append(
      svg("line", { x1: left, x2: wide - right, y1: y(tick), y2: y(tick), class: tick ? "rule" : "zero" }),
      svg("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, number(tick)));
    let free = -Infinity;
    for (const [step, label] of marks) {
      root.append(svg("line", { x1: x(step), x2: x(step), y1: above, y2: above + tall, class: "zero" }));
      if (x(step) < free) continue;
      free = x(step) + label.length * 7 + 8;
      root.append(svg("text", { x: x(step) + 3, y: above - 8 }, label));
    }
    for (const tick of rounds(0, last, wide < 480 ? 3 : 6)) root.append(svg("text", { x: x(tick), y: above + tall + 18, "text-anchor": tick === 0 ? "start" : x(tick) > wide - 40 ? "end" : "middle" }, count(tick)));
    root.append(svg("text", { x: left + inner / 2, y: height - 6, "text-anchor": "middle", class: "axis" }, "optimiser steps"));
    for (const { colour, points } of series) {
      const d = points.map(([step, value], i) => `${i ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("");
      if (points.length > 1) root.append(svg("g", { class: colour }, svg("path", { class: "curve thin", d })));
      else for (const [step, value] of points) root.append(svg("g", { class: colour }, svg("circle", { class: "dot", cx: x(step), cy: y(value), r: 4 })));
    }
    const slots = Math.max(1, Math.min(60, Math.floor(inner / 12), last));
    for (let n = 0; n < slots; n++) {
      const [from, to] = [last * n / slots, last * (n + 1) / slots];
      const here = series.flatMap((s) => s.points.filter(([step]) => step > from && step <= to).slice(-1).map(([step, value]) => `${s.name}, step ${count(step)}: ${number(value)}`));
      if (here.length) root.append(svg("g", {}, svg("line", { class: "cursor", x1: x((from + to) / 2), x2: x((from + to) / 2), y1: above, y2: above + tall }),
        svg("rect", { class: "hit", x: x(from), y: above, width: inner / slots, height: tall, ...tipped(here.join("\n")) })));
    }
    return root;
  });
}

"use strict";

// Elements, numbers and charts. Texts are only ever set as text, never as HTML.

const SVG = "http://www.w3.org/2000/svg";

function make(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, v] of Object.entries(value)) node.style.setProperty(key, v);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}
const h = (tag, attributes, ...children) => make(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => make(document.createElementNS(SVG, tag), attributes, children);

const known = (value) => typeof value === "number" && Number.isFinite(value);
const count = (value) => (known(value) ? value.toLocaleString("en-US") : "–");
// Rounds as Python does, so that the page, the terminal and report.md say the same: exact halves go to the even digit.
// A number is an exact half of its last digit if 2^(digits + 1) times it, which no rounding changes, is odd.
function fixed(value, digits) {
  const half = Math.abs(value * 2 ** (digits + 1) % 2) === 1, low = Math.floor(value * 10 ** digits);
  const text = (half ? (low + (low % 2 === 0 ? 0 : 1)) / 10 ** digits : value).toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
}
const percent = (value, digits = 1) => (known(value) ? `${fixed(100 * value, digits)}\u00a0%` : "?");
function limits(interval) {
  if (!Array.isArray(interval) || !interval.every(known)) return "";
  const [low, high] = interval.map((v) => fixed(100 * v, 0));
  return `${low}${low.startsWith("−") ? " to " : "–"}${high}`;
}
const points = (value, digits = 1) => (known(value) ? fixed(100 * value, digits).replace(/^(?!−)/, "+") : "?");
const pValue = (value) => (!known(value) ? "?" : value < 0.001 ? "p <\u00a00.001" : `p = ${fixed(value, 3)}`);
// Names of models are paths, which fold after a slash.
const foldable = (name) => (typeof name !== "string" ? name
  : (name.match(/[^/_]+[/_]?|[/_]/g) || []).map((piece, i) => [i > 0 && h("wbr"), piece]));
const words = (value) => String(value).replaceAll("_", " ");
const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
const mean = (value) => (known(value) ? fixed(value, 3) : "?");
const number = (value) => (known(value) ? String(Number(value.toPrecision(4))) : "–");
const width = (share) => `${(100 * Math.max(0, Math.min(1, share || 0))).toFixed(2)}%`;

function duration(seconds) {
  if (!known(seconds)) return "?";
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(Math.round(seconds) / 60), rest = Math.round(seconds) % 60;
  return minutes < 60 ? `${minutes} min ${String(rest).padStart(2, "0")} s`
    : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

// One tooltip for the whole page, for the mouse, touch and the keyboard.
const tip = {
  node: document.getElementById("tip"),
  show(text, target) {
    this.node.textContent = text;
    this.node.hidden = false;
    const at = target.getBoundingClientRect(), own = this.node.getBoundingClientRect();
    const left = Math.min(Math.max(8, at.left + at.width / 2 - own.width / 2), innerWidth - own.width - 8);
    const above = at.top - own.height - 8;
    this.node.style.left = `${left}px`;
    this.node.style.top = `${above > 4 ? above : Math.min(at.bottom + 8, innerHeight - own.height - 4)}px`;
  },
  hide() { this.node.hidden = true; },
};
function tipped(text, focusable = false) {
  const show = (event) => tip.show(text, event.currentTarget), hide = () => tip.hide();
  return {
    "aria-label": text.replaceAll("\n", ", "), tabindex: focusable ? "0" : null, role: "img",
    onpointerenter: show, onpointerleave: hide, onfocus: show, onblur: hide,
  };
}

function legend(entries) {
  return h("ul", { class: "legend" }, entries.map(([name, colour, shape]) =>
    h("li", {}, h("span", { class: `key ${colour} ${shape || ""}` }), name)));
}

// A chart is drawn anew for every width, so that its letters keep their size.
const observer = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    const wide = Math.round(contentRect.width);
    if (wide > 0 && wide !== target.drawn) { target.drawn = wide; target.replaceChildren(target.draw(wide)); }
  }
});
function chart(height, draw) {
  const node = h("div", { class: "chart", style: { height: `${height}px` } });
  node.draw = draw;
  observer.observe(node);
  return node;
}

/**
 * Shares over steps, with their intervals.
 * series: [{name, colour, dashed, diamond, values: [{at, value, interval}]}]; ticks: the label of each step.
 */
function curve({ series, ticks, height, top, name, xLabel, yLabel, focusable }) {
  const values = series.flatMap((s) => s.values).filter((v) => known(v.value));
  const highest = top || ceiling(values.flatMap((v) => [v.value, v.interval ? v.interval[1] : 0]));
  return chart(height, (wide) => {
    const left = yLabel ? 56 : 40, right = 12, above = 10, below = xLabel ? 46 : 26;
    const inner = wide - left - right, tall = height - above - below;
    const slot = inner / ticks.length;
    const x = (at) => left + slot * (at + 0.5), y = (share) => above + tall * (1 - share / highest);
    const root = svg("svg", { viewBox: `0 0 ${wide} ${height}`, height, role: "group", "aria-label": name });
    const step = highest > 0.6 ? 0.2 : highest > 0.25 ? 0.1 : 0.05;
    for (let share = 0; share <= highest + 1e-9; share += step) {
      const at = Math.round(y(share)) + 0.5;
      root.append(
        svg("line", { x1: left, x2: wide - right, y1: at, y2: at, class: share ? "rule" : "zero" }),
        svg("text", { x: left - 8, y: at + 4, "text-anchor": "end" }, `${Math.round(100 * share)}${yLabel ? "" : " %"}`));
    }
    for (const at of legible(ticks, slot)) root.append(svg("text", { x: x(at), y: above + tall + 18, "text-anchor": "middle" }, ticks[at]));
    if (xLabel) root.append(svg("text", { x: left + inner / 2, y: height - 6, "text-anchor": "middle", class: "axis" }, xLabel));
    if (yLabel) root.append(svg("text", { x: 14, y: above + tall / 2, "text-anchor": "middle", class: "axis",
      transform: `rotate(-90 14 ${above + tall / 2})` }, yLabel));
    for (const one of series) root.append(drawSeries(one, x, y, series.length < 3));
    root.append(...ticks.map((label, at) => {
      const here = series.flatMap((s) => s.values.filter((v) => v.at === at).map((v) =>
        `${s.name}: ${percent(v.value)}${v.interval ? ` [${limits(v.interval)}]` : ""}`));
      return here.length && svg("g", {},
        svg("line", { class: "cursor", x1: x(at), x2: x(at), y1: above, y2: above + tall }),
        svg("rect", { class: "hit", x: x(at) - slot / 2, y: above, width: slot, height: tall, rx: 3,
          ...tipped([/^\d+$/.test(label) ? `${xLabel || "iteration"} ${label}` : label, ...here].join("\n"), focusable) }));
    }).filter(Boolean));
    return root;
  });
}

/** Which of the labels there is room for; the last one always is. */
function legible(ticks, slot) {
  const half = (at) => ticks[at].length * 3.5 + 4, end = ticks.length - 1, kept = [];
  let free = -Infinity;
  for (let at = 0; at < end; at++) {
    if (at * slot - half(at) < free || at * slot + half(at) > end * slot - half(end)) continue;
    kept.push(at);
    free = at * slot + half(at);
  }
  return [...kept, end];
}

function drawSeries({ colour, dashed, diamond, values }, x, y, bands) {
  const shown = values.filter((v) => known(v.value));
  const path = (pairs) => pairs.map(([a, b], i) => `${i ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`).join("");
  const group = svg("g", { class: colour });
  const sure = shown.filter((v) => v.interval);
  if (!diamond && bands && sure.length > 1) {
    const edge = [...sure.map((v) => [x(v.at), y(v.interval[1])]), ...sure.map((v) => [x(v.at), y(v.interval[0])]).reverse()];
    group.append(svg("path", { class: "band", d: `${path(edge)}Z` }));
  }
  for (const v of bands || diamond ? sure : []) {
    const [low, high] = v.interval.map(y), at = x(v.at);
    group.append(svg("path", { class: "span", d: `M${at - 4} ${low}H${at + 4}M${at} ${low}V${high}M${at - 4} ${high}H${at + 4}` }));
  }
  if (shown.length > 1) group.append(svg("path", { class: `curve${dashed ? " dashed" : ""}`, d: path(shown.map((v) => [x(v.at), y(v.value)])) }));
  for (const v of shown) {
    group.append(diamond
      ? svg("rect", { class: "dot", x: x(v.at) - 5.5, y: y(v.value) - 5.5, width: 11, height: 11, rx: 1.5, transform: `rotate(45 ${x(v.at)} ${y(v.value)})` })
      : svg("circle", { class: "dot", cx: x(v.at), cy: y(v.value), r: 5 }));
  }
  return group;
}

function ceiling(shares) {
  const highest = Math.max(0.1, ...shares.filter(known));
  const step = highest > 0.6 ? 0.2 : highest > 0.25 ? 0.1 : 0.05;
  return Math.min(1, Math.ceil(highest / step - 1e-9) * step);
}

/**
 * Horizontal bars; those of negative values go from 0 to the left.
 * rows: [{label, value, interval, colour, pale, text, note, tip}]; `top` is a full bar.
 */
function bars(rows, top = 1) {
  const low = Math.min(0, ...rows.flatMap((row) => [row.value, ...(row.interval || [])]).filter(known));
  const at = (value) => Math.max(0, Math.min(1, (value - low) / (top - low)));
  const span = (from, to) => ({ left: width(at(from)), width: width(at(to) - at(from)) });
  return h("div", { class: "bars" }, rows.map((row) => [
    h("span", { class: "label" }, foldable(row.label)),
    h("span", { class: `track ${row.colour || "c-main"}`, ...(row.tip ? tipped(row.tip) : {}) },
      known(row.value) && h("span", { class: `fill${row.pale ? " pale" : ""}`, style: span(Math.min(0, row.value), Math.max(0, row.value)) }),
      low < 0 && h("span", { class: "origin", style: { left: width(at(0)) } }),
      Array.isArray(row.interval) && known(row.value) && h("span", { class: "whisker", style: span(...row.interval) })),
    h("span", { class: "value" }, row.text, h("small", {}, row.note || "")),
  ]));
}

/** A table; rows hold texts, nodes or null. In its head and in its first column, words of up to 12 letters do not fold. */
function table(header, rows, total) {
  const line = (cells, kind) => h("tr", { class: kind || null }, cells.map((cell, i) => h("td", {}, i ? cell : foldable(cell))));
  const longest = (name) => (typeof name === "string" ? Math.max(...name.split(/[\s/_]/).map((word) => word.length)) : 0);
  const least = (names) => `${Math.min(12, Math.max(...names.map(longest)) + 1)}ch`;
  return h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, header.map((cell, i) =>
      h("th", { scope: "col", style: { "min-width": least(i ? [cell] : [cell, ...rows.map(([label]) => label)]) } }, foldable(cell))))),
    h("tbody", {}, rows.map((cells) => line(cells)), total ? line(total, "total") : null)));
}
/** A table with a column an environment; with many of them, a row an environment. */
function wide(header, rows) {
  if (header.length <= 8 || rows.length + 1 >= header.length) return table(header, rows);
  return table(["environment", ...rows.map(([label]) => label)], header.slice(1).map((name, i) => [name, ...rows.map((row) => row[i + 1])]));
}
const meter = (text, share, colour) => [text, h("span", { class: `meter ${colour || "c-main"}` }, h("span", { style: { width: width(share) } }))];

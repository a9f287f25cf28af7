// What was measured: one section a question. `report` is report.json.

const report = JSON.parse(document.getElementById("data").textContent);
const isEval = Array.isArray(report.players);
const players = report.players || [];
const iterations = report.iterations || [];
const control = report.control || null;

// Every policy that was measured: {name, colour, pale, macro, environments}.
const measured = isEval
  ? players.map((p, i) => ({ ...p, name: p.player, colour: `c${i % 8}` }))
  : [...iterations.map((row) => ({ ...row, name: row.iteration ? `iteration ${row.iteration}` : "BC", short: row.iteration ? `${row.iteration}` : "BC", colour: "c-main" })),
    ...(control ? [{ ...control, name: "control", colour: "c-control" }] : [])];
// Those that bars show: all players; or BC, the control and the last iteration.
const shownBars = isEval ? measured : [
  iterations.length > 1 && { ...measured[0], colour: "c-base" },
  control && measured[measured.length - 1],
  measured[iterations.length - 1],
].filter(Boolean);
const environments = [...new Set(measured.flatMap((m) => Object.keys(m.environments || {})))].sort();
const part = (policy, name) => (policy.environments || {})[name] || {};
const macro = (policy) => policy.macro || {};
// An evaluation reports each environment by its own metric; a training run by the share solved.
const share = (result) => (isEval && result.headline !== undefined ? result.headline : result.success);
const interval = (result) => (!known(share(result)) ? null : (isEval && result.headline_interval) || result.success_interval);
const sum = (policy, get) => environments.reduce((total, name) => total + (get(part(policy, name)) || 0), 0);
const given = (result) => (known(result.episodes) ? result.episodes : result.tasks) || 0;
const finished = (result) => given(result) - (result.errored || 0);
const last = measured[Math.max(0, iterations.length - 1)] || { environments: {} };

function section(id, title, note, ...children) {
  return h("section", { id, "aria-labelledby": `${id}-title` }, h("h2", { id: `${id}-title` }, title),
    note && h("p", { class: "note" }, note), children);
}
function tile(title, big, small, note) {
  return h("div", { class: "tile" }, h("p", {}, foldable(title)), h("p", { class: "big" }, big, small && h("small", {}, ` ${small}`)), h("p", {}, note || " "));
}
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const baselineName = (name) => (name === "iteration 0" ? "BC" : name === "control" ? "the control" : name);

function overview() {
  const comparisons = report.comparisons || [];
  const tiles = [];
  if (isEval) {
    for (const p of measured.slice(0, 6)) {
      tiles.push(tile(p.name, percent(share(macro(p))), "", limits(interval(macro(p))) && `95 % interval ${limits(interval(macro(p)))}`));
    }
  } else {
    const within = limits(interval(macro(last)));
    const before = iterations.length > 1 ? `BC ${percent(macro(measured[0]).success)}` : "";
    tiles.push(tile("Held-out tasks solved", percent(macro(last).success), "", [within && `95 % interval ${within}`, before].filter(Boolean).join(" · ")));
    for (const c of comparisons) {
      tiles.push(tile(`Over ${baselineName(c.baseline)}`, points(c.difference), "points",
        [pValue(c.p_value), known(c.won) && `won ${count(c.won)}, lost ${count(c.lost)} of ${count(c.tasks)}`].filter(Boolean).join(" · ")));
    }
  }
  const counted = isEval ? measured : [last], what = isEval ? "episodes" : "held-out tasks";
  const [all, ended] = [given, finished].map((get) => counted.reduce((total, m) => total + sum(m, get), 0));
  tiles.push(tile("Coverage", `${count(ended)}/${count(all)}`, "", ended < all ? `${what} that finished; the others count for nothing` : `${what} finished`));
  return h("section", { id: "overview", "aria-label": "Overview" }, h("div", { class: "tiles" }, tiles));
}

function learning() {
  if (isEval || !iterations.length) return null;
  const ticks = [...iterations.map((row) => (row.iteration ? `${row.iteration}` : "BC")), ...(control ? ["control"] : [])];
  const series = (get, name) => [
    { name, colour: "c-main", values: iterations.map((row, at) => ({ at, value: share(get(row)), interval: interval(get(row)) })) },
    ...(control ? [{ name: "control", colour: "c-control", diamond: true,
      values: [{ at: iterations.length, value: share(get(control)), interval: interval(get(control)) }] }] : []),
  ];
  const all = measured.flatMap((m) => [macro(m), ...environments.map((name) => part(m, name))]);
  const top = ceiling(all.flatMap((r) => [share(r), (interval(r) || [])[1]]));
  const entries = [[report.method || "run", "c-main", "line"], ...(control ? [["control: behavioural cloning for as many steps", "c-control", "diamond"]] : []), ["95 % interval", "c-soft", "bracket"]];
  return section("learning", "Learning curve", "Share of held-out tasks solved, played greedily after each iteration. In the macro average every environment weighs the same.",
    h("div", { class: "card" }, h("h3", {}, "Macro average"), legend(entries),
      curve({ series: series(macro, "macro average"), ticks, height: 320, name: "Macro success over iterations", xLabel: "iteration", yLabel: "tasks solved, %", focusable: true })),
    environments.length > 0 && h("div", { class: "grid" }, environments.map((name) => h("div", { class: "card" },
      h("h3", {}, name, h("small", {}, [percent(share(part(measured[0], name))), percent(share(part(last, name)))].slice(iterations.length > 1 ? 0 : 1).join(" → "))),
      curve({ series: series((row) => part(row, name), name), ticks, height: 180, top, name: `Success in ${name} over iterations` })))));
}

function byEnvironment() {
  const card = (name, get) => h("div", { class: "card" }, h("h3", {}, name), bars(shownBars.map((policy) => {
    const value = share(get(policy)), within = interval(get(policy));
    return { label: policy.name, value, interval: within, colour: policy.colour, pale: true, text: percent(value), note: limits(within),
      tip: `${policy.name}, ${name}: ${percent(value)}${within ? ` [${limits(within)}]` : ""}` };
  })));
  const header = isEval ? "player" : "iteration";
  const score = (result) => (known(result.score) ? [mean(result.score), h("small", {}, known(result.turns) ? fixed(result.turns, 1) : "")] : "?");
  const cell = (result) => [percent(share(result)).replace(/.%/, ""), h("small", {}, limits(interval(result)))];
  const metric = (name) => (isEval && measured.some((m) => part(m, name).metric === "score") ? `${name} (score)` : name);
  return section("environments", isEval ? "Results" : "Environments", isEval
    ? "The share of held-out tasks solved or, where an environment's metric is the score, the mean score from 0 (before the first action) to 100 (the highest). The mark on a bar is the 95 % interval."
    : "Share of held-out tasks solved. The mark on a bar is the 95 % interval: Wilson's for an environment, combined for the macro average.",
    card("Macro average", macro),
    h("div", { class: "grid" }, environments.map((name) => card(metric(name), (policy) => part(policy, name)))),
    h("div", { class: "card" }, h("h3", {}, isEval ? "In per cent, with 95 % interval" : "Tasks solved, % with 95 % interval"), wide([header, ...environments.map(metric), "macro"],
      measured.map((m) => [m.short || m.name, ...environments.map((name) => cell(part(m, name))), cell(macro(m))]))),
    h("div", { class: "card" }, h("h3", {}, "Mean score of what finished, and beside it the mean number of turns"), wide([header, ...environments, "macro, scaled"],
      measured.map((m) => [m.short || m.name, ...environments.map((name) => score(part(m, name))), mean(macro(m).score)]))));
}

function types() {
  const groups = environments.map((name) => [name, typesOf(name)]).filter(([, found]) => found.length);
  if (!groups.length) return null;
  return section("types", "Kinds of tasks", "Share solved of each kind of task of an environment.",
    h("div", { class: `columns ${shownBars.length > 3 ? "single" : ""}` }, groups.map(([name, found]) => h("div", { class: "card tall", tabindex: found.length > 10 ? "0" : null, role: "group", "aria-label": name }, h("h3", {}, name, h("small", {}, words(measured.map((m) => part(m, name).task_type).find(Boolean) || ""))),
      table(["kind", "tasks", ...shownBars.map((m) => m.name)], found.map((type) => {
        const results = shownBars.map((m) => (part(m, name).types || {})[type] || {});
        return [words(type), count(Math.max(0, ...results.map((r) => r.tasks || 0))),
          ...results.map((r, i) => meter([percent(share(r)), h("small", {}, limits(interval(r)))], share(r), shownBars[i].colour))];
      }))))));
}
const typesOf = (name) => [...new Set(measured.flatMap((m) => Object.keys(part(m, name).types || {})))]
  .sort((a, b) => a.localeCompare(b, "en", { numeric: true }));

function tries() {
  const drawn = (name) => {
    const found = measured.flatMap((m) => ["pass_at_k", "pass_hat_k"].map((key) => ({
      name: `${m.name}, ${key === "pass_at_k" ? "pass@k" : "pass^k"}`, colour: m.colour, dashed: key === "pass_hat_k", shares: part(m, name)[key] || {} })));
    const ks = [...new Set(found.flatMap((s) => Object.keys(s.shares)))].sort((a, b) => a - b);
    return ks.length > 1 && h("div", { class: "card" }, h("h3", {}, name), curve({ name: `pass@k, ${name}`, height: 220, top: 1, ticks: ks, xLabel: "k (tries)", focusable: true,
      series: found.map((s) => ({ ...s, values: Object.entries(s.shares).map(([k, value]) => ({ at: ks.indexOf(k), value })) })) }));
  };
  const cards = environments.map(drawn).filter(Boolean);
  if (!cards.length) return null;
  return section("tries", "Several tries", "pass@k: the share of tasks solved by at least one of k tries. pass^k: by all of k tries.",
    h("div", { class: "grid" }, cards),
    legend([...measured.map((m) => [m.name, m.colour, "line"]), ["pass@k", "c-soft", "line"], ["pass^k", "c-soft", "dash"]]));
}

function exploration() {
  const explored = iterations.filter((row) => row.explored);
  if (!explored.length) return null;
  const top = Math.max(1, ...explored.map((row) => Math.max(row.explored.tried, row.explored.kept || 0)));
  const stages = [["tried", "tried"], ["finished", "finished"], ["succeeded", "succeeded"], ["kept", "kept"], ["newly_solved", "newly solved"]];
  return section("exploration", "Exploration", "Of the episodes tried in an iteration: those that came to an end, those that succeeded, those kept to learn from (of earlier iterations too, where the recipe merges them), and the tasks solved for the first time in the run.",
    h("div", { class: "grid narrow" }, explored.map(({ iteration, explored: e }) => h("div", { class: "card" },
      h("h3", {}, `Iteration ${iteration}`, h("small", {}, e.errored ? `${count(e.errored)} errored` : "")),
      bars(stages.filter(([key]) => known(e[key])).map(([key, label]) => ({
        label, value: e[key], text: count(e[key]), colour: key === "kept" || key === "newly_solved" ? "c-good" : "c-main", pale: key !== "kept" && key !== "newly_solved",
        note: key !== "tried" && e.tried && e[key] <= e.tried ? `${(100 * e[key] / e.tried).toFixed(0)} %` : "",
        tip: `${label}: ${count(e[key])} of ${count(e.tried)} tried` })), top)))));
}

function budget() {
  const rows = [...iterations, ...(control ? [{ ...control, iteration: "control" }] : [])].filter((row) => row.learned);
  const seconds = Object.entries(report.seconds || {}).filter(([, value]) => known(value)).sort((a, b) => b[1] - a[1]);
  if (!rows.length && !seconds.length) return null;
  const keys = ["steps", "tokens", "trajectories"];
  const top = Object.fromEntries(keys.map((key) => [key, Math.max(1, ...rows.map((row) => row.learned[key] || 0))]));
  const more = [["loss", "last loss"], ["cut", "turns cut"]].filter(([key]) => rows.some((row) => row.learned[key]));
  const total = seconds.reduce((all, [, value]) => all + value, 0);
  const names = { bc: "behavioural cloning", learn: "learning", explore: "exploring", eval: "measuring", control: "measuring the control", expert: "expert set" };
  return section("budget", isEval ? "Time" : "Budget", isEval ? null : "What was learned from and how long it took.", h("div", { class: "columns" },
    rows.length > 0 && h("div", { class: "card" }, h("h3", {}, "Learning"),
      table(["iteration", ...keys, ...more.map(([, name]) => name)], rows.map((row) => [row.iteration === 0 ? "BC" : `${row.iteration}`,
        ...keys.map((key) => meter(count(row.learned[key]), (row.learned[key] || 0) / top[key], row.iteration === "control" ? "c-control" : "c-main")),
        ...more.map(([key]) => (key === "loss" && known(row.learned.loss) ? mean(row.learned.loss) : count(row.learned[key])))]))),
    seconds.length > 0 && h("div", { class: "card" }, h("h3", {}, "Wall time", h("small", {}, duration(total))),
      h("div", { class: "stack" }, seconds.map(([key, value], i) => h("span", { class: `c${i % 8}`, style: { flex: `${value / (total || 1)} 0 0` }, ...tipped(`${names[key] || key}: ${duration(value)}`) }))),
      table(["", "time", "share"], seconds.map(([key, value], i) => [
        h("ul", { class: "legend", style: { margin: "0" } }, h("li", {}, h("span", { class: `key c${i % 8}` }), names[key] || key)), duration(value), percent(value / (total || 1), 0)])))));
}

function comparisons() {
  const all = report.comparisons || [];
  if (!all.length) return null;
  const diff = (value) => h("span", { class: !known(value) ? "c-soft" : value > 0 ? "c-good" : value < 0 ? "c-bad" : "" }, points(value));
  const within = (c) => (Array.isArray(c.interval) ? c.interval.map((limit) => points(limit, 0)).join(" to ") : "");
  const verdict = (word) => h("span", { class: word === "better" ? "c-good" : word === "worse" ? "c-bad" : "c-soft" }, word || "");
  const line = (name, c) => [name, count(c.tasks), count(c.won), count(c.lost), [diff(c.difference), within(c) && h("small", {}, within(c))],
    pValue(c.p_value).replace(/^p (= )?/, ""), verdict(c.verdict)];
  return section("comparisons", "Comparisons", "Pairs of the same task, a task's tries averaged. p is exact, two-sided, and adjusted for the number of environments (Holm). Tasks that one of the two did not finish are left out.",
    report.compared > all.length && h("p", { class: "note" }, `Showing ${count(all.length)} of ${count(report.compared)}, those of the last players; report.md has all.`),
    h("div", { class: "columns wide" }, all.map((c) => h("div", { class: "card" }, h("h3", {}, isEval ? h("span", {}, foldable(c.candidate), " against ", foldable(c.baseline)) : capital(`${c.candidate} against ${c.baseline === "iteration 0" ? "behavioural cloning" : c.baseline}`)),
      table(["environment", "pairs", "won", "lost", "points", "p", "verdict"],
        Object.entries(c.environments || {}).map(([name, d]) => line(name, d)), line("all", c))))));
}

function coverage() {
  const gaps = measured.some((m) => environments.some((name) => part(m, name).errored));
  const cell = (ended, all) => h("span", { class: ended < all ? "c-bad" : null }, `${count(ended)}/${count(all)}`);
  return section("coverage", "Coverage", "An episode that did not come to an end by itself (the environment or the policy failed) is no failure of the policy: it has no score and counts in no share.",
    h("div", { class: "card" }, gaps
      ? wide([isEval ? "player" : "iteration", ...environments, "all"], measured.map((m) => [m.short || m.name, ...environments.map((name) => cell(finished(part(m, name)), given(part(m, name)))),
        cell(sum(m, finished), sum(m, given))]))
      : h("p", {}, isEval ? "Every episode of every player finished." : `Every held-out task finished, in every iteration: ${count(sum(last, given))} of ${count(sum(last, given))}.`)));
}

function playing() {
  if (!isEval || !players.some((p) => p.manner)) return null;
  const told = (p) => p.manner || {};
  return section("players", "Players", "What each player was told, and how it answered.", h("div", { class: "card" },
    table(["player", "prompt", "answers", "context", "tokens an answer", "tries a task", "as"], players.map((p) => [
      p.player, words(told(p).prompt || "–"), words(told(p).format || "–"), count(told(p).context), count(told(p).max_tokens), count(p.samples),
      told(p).from === "model" ? "it was taught" : "the recipe says"]))));
}

// Why tasks were not solved: how episodes ended, what answers held, and one task before and after.

const STOPS = [["done", "end without success", "c-base"], ["max_turns", "turn limit", "c-control"], ["context_full", "context full", "c3"],
  ["timeout", "timeout", "c4"], ["error", "error", "c-bad"], ["cancelled", "cancelled", "c5"]];
const HELD = { empty: "nothing at all", thoughts: "only thoughts", cut: "cut at the limit", several: "more than one action", other_format: "another format", unreadable: "no readable action" };
const MANY = 0.2;

// All that was played: {name, answers, ends}, in the order of the run.
const played = (isEval ? measured : [
  ...iterations.flatMap((row) => [row.explored && { ...row.explored, name: `exploration ${row.iteration}` },
    { ...row, name: row.iteration ? `iteration ${row.iteration}` : "BC" }]),
  control && { ...control, name: "control" },
]).filter((row) => row && row.answers && row.ends);
const stopped = (ends) => ({ ...ends.unsolved, ...ends.errored });

function why() {
  if (!played.length) return null;
  const stops = STOPS.filter(([key]) => played.some((p) => stopped(p.ends)[key]));
  const texts = played.flatMap((p) => [["correction", p.answers.corrections], ["failure", p.ends.causes]]
    .flatMap(([kind, found]) => Object.entries(found || {}).map(([text, times]) => [text, kind, p.name, count(times)])));
  return section("why", "Why tasks were not solved", "How episodes ended, and what the answers held that held no action: such an answer is corrected, and costs a turn.",
    h("div", { class: "card" }, h("h3", {}, "Episodes by how they ended"),
      legend([["solved", "c-good"], ...stops.map(([, name, colour]) => [name, colour])]),
      h("div", { class: "bars" }, played.map((p) => ending(p, stops)))),
    h("div", { class: "card" }, h("h3", {}, "Answers without an action"), held()),
    texts.length > 0 && h("div", { class: "card tall", tabindex: texts.length > 10 ? "0" : null, role: "group", "aria-label": "Corrections and failures" },
      h("h3", {}, "Corrections and failures", h("small", {}, "numbers in them may differ")), table(["text", "what", "in", "times"], texts)));
}

function ending({ name, ends }, stops) {
  const parts = [["solved", ends.solved, "c-good"], ...stops.map(([key, label, colour]) => [label, stopped(ends)[key] || 0, colour])].filter(([, n]) => n > 0);
  const all = parts.reduce((total, [, n]) => total + n, 0);
  return [h("span", { class: "label" }, foldable(name)),
    h("span", { class: "track parts", ...tipped([name, ...parts.map(([label, n]) => `${label}: ${count(n)} of ${count(all)}`)].join("\n")) },
      parts.map(([, n, colour]) => h("span", { class: colour, style: { flex: `${n / all} 0 0` } }))),
    h("span", { class: "value" }, count(all - ends.solved), h("small", {}, "not solved"))];
}

function held() {
  const kinds = Object.keys(HELD).filter((key) => played.some((p) => (p.answers.why || {})[key]));
  const part = (n, all) => (all ? percent(n / all) : "?");
  if (!kinds.length && !played.some((p) => p.answers.cut)) return h("p", {}, "Every answer held an action.");
  return table(["", "answers", "no action", ...kinds.map((key) => HELD[key]), "cut", "cut, with an action"], played.map(({ name, answers: a }) => {
    const share = a.given ? a.without_action / a.given : 0;
    return [name, count(a.given), meter(part(a.without_action, a.given), share, share > MANY ? "c-bad" : "c-main"),
      ...kinds.map((key) => part((a.why || {})[key] || 0, a.given)), part(a.cut, a.given), part(a.cut_with_action, a.given)];
  }));
}

function contrast() {
  const found = report.contrast;
  if (isEval || !found) return null;
  const note = found.gained
    ? `One task as the model played it after behavioural cloning, and at the end: one of ${plural(found.tasks, "held-out task")} that it solved only at the end.`
    : "One task as the model played it after behavioural cloning, and at the end; no task was solved only at the end.";
  return section("contrast", "Before and after", note, h("div", { class: "columns" }, found.episodes.map((e, i) => {
    const result = outcome(e);
    return h("div", { class: "card story", tabindex: "0", role: "group", "aria-label": e.iteration ? `Iteration ${e.iteration}` : "Behavioural cloning" },
      h("h3", {}, h("span", {}, `${e.item_id}, ${e.iteration ? `iteration ${e.iteration}` : "BC"}`), h("span", { class: `badge ${result}` }, OUTCOMES[result])),
      conversation(e, found.prompts[e.prompt], "", found.left[i]).flat().filter(Boolean));
  })));
}

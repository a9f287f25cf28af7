// The trajectory browser: filters, a list of which only the visible rows exist, and one conversation.

const ROW = 58;
const outcome = (e) => (e.success === null || e.success === undefined || e.score === null ? "errored" : e.success ? "solved" : "failed");
const OUTCOMES = { solved: "solved", failed: "not solved", errored: "errored" };
const PHASES = { expert: "expert set", imported: "imported", explore: "explored", eval: "measured", control: "control measured" };
const playerOf = new Map(players.flatMap((p) => (p.trajectories || []).map((file) => [file, p.player])));
const phase = (e) => PHASES[e.phase] || e.phase;
const where = (e) => (isEval ? playerOf.get(e.file) || e.policy
  : e.phase === "expert" || e.phase === "imported" || e.phase === "control" ? phase(e) : `iteration ${e.iteration}, ${phase(e)}`);

async function unpack() {
  const packed = document.getElementById("episodes-data").textContent.trim();
  if (!packed) return { prompts: [], episodes: [] };
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

/** Splits what a policy said into the thought and what follows from it; `text` alone where the action is not in it. */
function spoken([text, action]) {
  const label = /(^|\n)[ \t]*Action:[ \t]*\n?/, found = action ? text.search(label) : -1;
  if (!action || (found < 0 && text.trim() !== action.trim())) return { said: text, action };
  const thought = found < 0 ? "" : text.slice(0, found).replace(/^\s*Thought:[ \t]*\n?/, "").trim();
  const rest = found < 0 ? "" : text.slice(found).replace(label, "").trim();
  return { thought, action, said: rest === action.trim() || found < 0 ? "" : rest };
}

function marked(text, needle) {
  if (!needle) return [text];
  const pieces = [], lower = text.toLowerCase();
  let from = 0;
  for (let at = lower.indexOf(needle); at >= 0 && lower.length === text.length; at = lower.indexOf(needle, from)) {
    pieces.push(text.slice(from, at), h("mark", {}, text.slice(at, at + needle.length)));
    from = at + needle.length;
  }
  pieces.push(text.slice(from));
  return pieces;
}

class Browser {
  constructor({ prompts, episodes }) {
    this.prompts = prompts;
    this.all = episodes;
    this.found = episodes;
    this.at = -1;
    this.needle = "";
    this.build();
    this.filter();
    addEventListener("hashchange", () => this.follow());
    this.followed = this.follow();
    if (!this.followed && matchMedia("(min-width: 821px)").matches) this.open(0, false);
  }

  /** Opens the episode that the address names, if it names one. */
  follow() {
    const wanted = /^#episode-(\d+)$/.exec(location.hash), episode = wanted && this.all[Number(wanted[1])];
    if (!episode) return false;
    if (!this.found.includes(episode)) this.clear();
    this.open(this.found.indexOf(episode), false, true);
    return true;
  }

  build() {
    const iteration = (e) => String(e.iteration);
    const values = (get) => [...new Set(this.all.map(get))];
    const tally = (get, value) => this.all.filter((e) => get(e) === value).length;
    const choice = (name, get, options, any, wide) => {
      const select = h("select", { name, onchange: () => this.filter() }, h("option", { value: "" }, any),
        options.map(([value, label]) => h("option", { value }, `${label} (${count(tally(get, value))})`)));
      this[name] = { select, get };
      return h("label", { class: wide || null }, name, select);
    };
    this.search = h("input", { type: "search", placeholder: "Words in the conversation", autocomplete: "off", spellcheck: "false",
      oninput: () => { clearTimeout(this.timer); this.timer = setTimeout(() => this.filter(), 120); } });
    this.search.addEventListener("keydown", (event) => { if (event.key === "ArrowDown" || event.key === "Enter") { event.preventDefault(); this.list.focus(); } });
    this.keys = ["Environment", "Outcome", ...(isEval ? ["Player"] : ["Phase", "Iteration"])];
    const outcomes = Object.entries(OUTCOMES).filter(([key]) => this.all.some((e) => outcome(e) === key));
    this.status = h("span", { role: "status" });
    this.reset = h("button", { type: "button", onclick: () => this.clear() }, "Clear filters");
    this.space = h("div", { style: { position: "relative" } });
    this.list = h("div", { class: "list", tabindex: "0", role: "listbox", "aria-label": "Episodes", onscroll: () => this.paint(), onkeydown: (event) => this.key(event) }, this.space);
    this.talk = h("div", { class: "talk", tabindex: "-1" });
    this.head = h("header");
    this.read = h("div", { class: "read", role: "region", "aria-label": "Conversation" }, this.head, this.talk);
    this.node = h("div", { class: "card browser" },
      h("div", { class: "pick" },
        h("div", { class: "filters" },
          choice("Environment", (e) => e.environment, values((e) => e.environment).sort().map((v) => [v, v]), "All"),
          choice("Outcome", outcome, outcomes, "All"),
          isEval ? choice("Player", where, values(where).map((v) => [v, v]), "All", "whole") : [
            choice("Phase", phase, values(phase).map((v) => [v, v]), "All"),
            choice("Iteration", iteration, values(iteration).sort((a, b) => a - b).map((v) => [v, v === "0" ? "0 (BC)" : v]), "All")],
          h("label", { class: "whole" }, "Text", this.search)),
        h("div", { class: "found" }, this.status, this.reset), this.list),
      this.read);
    this.read.addEventListener("keydown", (event) => { if (event.key === "Escape") this.back(); });
    new ResizeObserver(() => this.paint()).observe(this.list);
  }

  clear() {
    for (const key of this.keys) this[key].select.value = "";
    this.search.value = "";
    this.filter();
  }

  text(e) {
    e.searched ??= [e.item_id, e.policy, e.stop, e.error || "", e.observation, e.acknowledgement || "", ...e.turns.flatMap(([text, , seen, , beside]) => [text, seen, beside || ""])].join("\n").toLowerCase();
    return e.searched;
  }

  filter() {
    const current = this.found[this.at];
    this.needle = this.search.value.trim().toLowerCase();
    const wanted = this.keys.map((key) => [this[key].get, this[key].select.value]).filter(([, value]) => value);
    this.found = this.all.filter((e) => wanted.every(([get, value]) => get(e) === value) && (!this.needle || this.text(e).includes(this.needle)));
    this.status.textContent = this.found.length === this.all.length ? plural(this.all.length, "episode") : `${count(this.found.length)} of ${plural(this.all.length, "episode")}`;
    this.reset.hidden = !wanted.length && !this.needle;
    this.at = this.found.indexOf(current);
    this.space.style.height = `${this.found.length * ROW}px`;
    this.list.scrollTop = Math.max(0, this.at * ROW - this.list.clientHeight / 2);
    this.paint();
    if (this.at >= 0) this.show();
    else if (!this.node.classList.contains("reading")) this.open(this.found.length ? 0 : -1, false);
  }

  paint() {
    const first = Math.max(0, Math.floor(this.list.scrollTop / ROW) - 4);
    const end = Math.min(this.found.length, first + Math.ceil((this.list.clientHeight || 600) / ROW) + 8);
    this.space.replaceChildren(...(this.found.length ? [] : [h("p", { class: "empty" }, "No episode matches.")]),
      ...this.found.slice(first, end).map((e, i) => this.row(e, first + i)));
    if (this.at >= first && this.at < end) this.list.setAttribute("aria-activedescendant", `row-${this.at}`);
    else this.list.removeAttribute("aria-activedescendant");
  }

  row(e, at) {
    return h("div", { class: `row ${outcome(e)}`, id: `row-${at}`, role: "option", "aria-selected": String(at === this.at), "aria-setsize": this.found.length, "aria-posinset": at + 1,
      style: { top: `${at * ROW}px` }, onclick: () => { this.list.focus({ preventScroll: true }); this.open(at, true, true); } },
    h("div", {}, h("b", {}, e.item_id), h("small", {}, outcome(e) === "errored" ? words(e.stop) : `score ${number(e.score)}`)),
    h("div", {}, h("small", {}, [where(e), e.sample ? `try ${e.sample + 1}` : "", e.kept ? "kept" : ""].filter(Boolean).join(" · ")), h("small", {}, plural(e.turns.length, "turn"))));
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.list.clientHeight / ROW) - 1);
    const moves = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in moves && this.found.length) {
      event.preventDefault();
      this.open(Math.min(this.found.length - 1, Math.max(0, this.at + moves[event.key])));
    } else if (event.key === "Enter" && this.at >= 0) {
      event.preventDefault();
      this.open(this.at, true, true);
      this.talk.focus();
    }
  }

  /** Shows an episode of the list; on a narrow screen it takes the place of the list if `reading`. */
  open(at, link = true, reading = false) {
    this.at = at;
    const top = at * ROW, list = this.list;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
    this.paint();
    this.show();
    const episode = this.found[at];
    if (episode && link) {  // browsers refuse to change the address many times a second, as a key held down would
      clearTimeout(this.linking);
      this.linking = setTimeout(() => history.replaceState(null, "", `#episode-${this.all.indexOf(episode)}`), 250);
    }
    if (reading && episode) {
      this.node.classList.add("reading");
      if (this.node.getBoundingClientRect().top < 0) this.node.scrollIntoView();
    }
  }

  back() {
    this.node.classList.remove("reading");
    this.list.focus({ preventScroll: true });
    this.paint();
  }

  show() {
    const e = this.found[this.at];
    this.talk.scrollTop = 0;
    if (!e) {
      this.head.hidden = true;
      this.talk.replaceChildren(h("p", { class: "empty" }, this.all.length ? "Choose an episode." : "This run folder holds no trajectories."));
      return;
    }
    const result = outcome(e), move = (by) => () => this.open(this.at + by, true, true);
    const fact = (name, value) => value !== "" && value !== null && value !== undefined && h("li", {}, `${name} `, h("b", {}, value));
    this.head.hidden = false;
    this.head.replaceChildren(
      h("div", {}, h("button", { class: "back", type: "button", onclick: () => this.back() }, "← List"),
        h("h3", {}, e.item_id), h("span", { class: `badge ${result}` }, OUTCOMES[result]), e.kept && h("span", { class: "badge" }, "kept"),
        h("button", { type: "button", disabled: this.at <= 0, "aria-label": "Previous episode", onclick: move(-1) }, "↑"),
        h("button", { type: "button", disabled: this.at >= this.found.length - 1, "aria-label": "Next episode", onclick: move(1) }, "↓")),
      h("ul", { class: "facts" }, h("li", {}, where(e)), fact("score", known(e.score) ? number(e.score) : "none"), fact("stop", words(e.stop)), fact("turns", count(e.turns.length)),
        fact("try", e.sample + 1), !isEval && fact("policy", e.policy), fact("version", e.version), known(e.seconds) && fact("time", duration(e.seconds))));
    this.talk.replaceChildren(...conversation(e, this.prompts[e.prompt], this.needle).flat().filter(Boolean));
  }
}

/** An episode as it was said; `left` turns at its end are not shown. */
function conversation(e, prompt, needle, left = 0) {
  const text = (value) => marked(value, needle), result = outcome(e);
  let before = null;
  return [
    prompt && h("details", {}, h("summary", {}, "Instructions"), h("pre", { class: "seen" }, text(prompt))),
    e.acknowledgement && h("p", { class: "say" }, h("span", { class: "tag" }, "Acknowledged"), text(e.acknowledgement)),
    e.observation && h("div", { style: { "margin-top": "12px" } }, h("span", { class: "tag" }, "First observation"), h("pre", { class: "seen" }, text(e.observation))),
    e.turns.map((turn, i) => {
      const [, , seen, score, beside, cut] = turn, { thought, action, said } = spoken(turn);
      const change = known(score) && known(before) && score !== before ? score - before : known(score) && before === null ? score : 0;
      if (known(score)) before = score;
      return h("div", { class: "turn" }, h("span", { class: "number", "aria-label": `Turn ${i + 1}` }, i + 1),
        beside && h("p", { class: "say soft" }, h("span", { class: "tag" }, "Thoughts beside the answer"), text(beside)),
        thought && h("p", { class: "say" }, text(thought)), said && h("p", { class: "say" }, text(said)),
        action !== null ? h("div", { class: "action" }, h("span", { class: "tag" }, "Action"), h("pre", {}, text(action)))
          : h("div", { class: "action none" }, h("span", { class: "tag" }, "No readable action")),
        cut && h("p", { class: "score" }, "cut at the length limit"),
        seen && h("pre", { class: "seen" }, text(seen)),
        known(score) && h("p", { class: "score" }, `score ${number(score)} `, change !== 0 && h("b", { class: change < 0 ? "down" : null }, `${change > 0 ? "+" : "−"}${number(Math.abs(change))}`)));
    }),
    left > 0 && h("p", { class: "note" }, `${plural(left, "more turn")} not shown`),
    h("div", { class: `stop ${result === "errored" ? "errored" : ""}` }, `Stopped: ${words(e.stop)}`,
      result !== "errored" && `, score ${number(e.score)}, ${OUTCOMES[result]}`, e.error && h("pre", {}, text(e.error))),
  ];
}

function trajectories() {
  const { shown = 0, total = 0, cut } = report.episodes || {};
  const how = shown < total ? `Showing ${count(shown)} of ${count(total)} episodes, chosen evenly over phases, iterations and environments.` : `All ${plural(total, "episode")} of the run.`;
  const place = h("div", { class: "card" }, h("p", { class: "empty" }, "Unpacking the episodes …"));
  const node = section("trajectories", "Trajectories", cut ? `${how} Texts longer than ${count(cut)} characters are cut.` : how,
    h("p", { class: "note keys" }, h("kbd", {}, "/"), " search, ", h("kbd", {}, "↑"), " ", h("kbd", {}, "↓"), " move, ", h("kbd", {}, "Enter"), " read, ", h("kbd", {}, "Esc"), " back to the list"), place);
  const fail = (reason) => place.replaceChildren(h("p", { class: "empty" }, reason));
  if (!total) fail("This run folder holds no trajectories.");
  else if (typeof DecompressionStream === "undefined") fail("This browser cannot unpack the episodes: any of 2023 or later can. They are in the folder trajectories of the run.");
  else unpack().then((data) => {
    const browser = new Browser(data);
    place.replaceWith(browser.node);
    browser.paint();
    if (browser.followed) node.scrollIntoView({ behavior: "instant" });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "/" || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      browser.back();
      browser.search.focus();
    });
    document.documentElement.dataset.ready = "yes";
  }, (error) => { fail(`The episodes in this page are damaged (${error.message}): make it again with agentgym report.`); });
  return node;
}

// Puts the page together.

function masthead() {
  const fact = (name, value) => value !== "" && value !== null && value !== undefined && h("li", {}, `${name} `, h("b", {}, value));
  document.getElementById("kind").textContent = `agentgym · ${isEval ? "evaluation" : "training run"}`;
  document.getElementById("facts").append(...[
    report.unfinished && h("li", { class: "flag" }, "unfinished: the iterations measured so far"),
    fact("model", isEval ? "" : report.model), fact("seed", report.seed),
    isEval ? fact("players", players.length) : fact("iterations", Math.max(0, iterations.length - 1)),
    fact("environments", environments.join(", ")),
  ].filter(Boolean));
}

function recipe() {
  const facts = (object) => h("dl", {}, Object.entries(object || {}).map(([key, value]) => [h("dt", {}, key.replaceAll("_", " ")),
    h("dd", {}, Array.isArray(value) ? value.join(", ") || "none" : typeof value === "object" && value !== null ? JSON.stringify(value) : String(value))]));
  return section("recipe", "Recipe and machine", "Everything needed to repeat the run.",
    report.recipe && h("div", { class: "card" }, h("details", {}, h("summary", {}, "recipe.yaml, with every setting"), h("pre", { class: "seen" }, report.recipe))),
    h("div", { class: "grid" }, h("div", { class: "card" }, h("h3", {}, "Versions"), facts(report.versions)),
      h("div", { class: "card" }, h("h3", {}, "Machine"), facts(report.machine))));
}

function navigation(sections) {
  const links = sections.filter((node) => node.querySelector("h2")).map((node) => h("a", { href: `#${node.id}` }, node.querySelector("h2").textContent));
  document.getElementById("nav").append(h("ul", {}, links.map((link) => h("li", {}, link))));
  const mark = () => {
    const here = sections.filter((node) => node.getBoundingClientRect().top < 140).pop();
    const end = innerHeight + scrollY >= document.documentElement.scrollHeight - 2 && scrollY > 0;
    const id = end ? sections[sections.length - 1].id : here && here.id;
    for (const link of links) {
      if (link.hash !== `#${id}`) link.removeAttribute("aria-current");
      else if (!link.hasAttribute("aria-current")) {
        link.setAttribute("aria-current", "true");
        const bar = link.closest("ul");
        bar.scrollLeft = link.offsetLeft - bar.offsetLeft - (bar.clientWidth - link.offsetWidth) / 2;
      }
    }
  };
  addEventListener("scroll", mark, { passive: true });
  addEventListener("scroll", () => tip.hide(), { passive: true });
  mark();
}

masthead();
const sections = [overview, learning, byEnvironment, types, tries, contrast, why, exploration, training, budget, comparisons, coverage, playing, trajectories, recipe].map((make) => make()).filter(Boolean);
document.getElementById("main").append(...sections);
navigation(sections);

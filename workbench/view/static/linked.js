// Makes static views interactive: hovering over a token marks it under every scorer, buttons choose what is shown.
// The HTML is the static twin from the templates of `workbench.view`, which escape every text.

const tokensOf = (answer) => [...answer.querySelectorAll(":scope > :is(span,u)")];
const kin = (answer) => {
  const kind = answer.classList.contains("wb-ask") ? ".wb-ask" : ".wb-a:not(.wb-ask)";
  return [...answer.closest(".wb-row").querySelectorAll(kind)];
};

/** Mark a token wherever its sample is drawn, and show its title below the text. */
const linkTokens = (frame) => {
  const readout = el("div", { class: "wb-readout", role: "status" }, "Hover over a token, or move in a text with the arrow keys.");
  frame.append(readout);
  let marked = [];
  let place = null; // [answer, index]
  const mark = (answer, index) => {
    for (const node of marked) node.classList.remove("wb-cur");
    marked = kin(answer).map((each) => tokensOf(each)[index]).filter(Boolean);
    for (const node of marked) node.classList.add("wb-cur");
    place = [answer, index];
    const lines = (tokensOf(answer)[index]?.title ?? "").split("\n");
    readout.replaceChildren(el("b", {}, lines[0]), " ", lines.slice(1).join(" · "));
  };
  frame.addEventListener("mouseover", (event) => {
    const answer = event.target.closest(".wb-a");
    const token = event.target.closest(".wb-a > :is(span,u)");
    if (token) mark(answer, tokensOf(answer).indexOf(token));
  });
  for (const answer of frame.querySelectorAll(".wb-a")) {
    answer.tabIndex = 0;
    answer.setAttribute("role", "group");
    answer.setAttribute("aria-label", `${answer.closest(".wb-pair")?.querySelector("span")?.textContent ?? ""}: ${answer.textContent}`);
    answer.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const last = tokensOf(answer).length - 1;
      const at = place?.[0] === answer ? place[1] + step : step > 0 ? 0 : last;
      mark(answer, Math.min(last, Math.max(0, at)));
      event.preventDefault();
    });
  }
};

/** Tokens of the changes can be selected, by click or by arrow keys and Enter in a text; Python is told which. */
class Choice {
  constructor(model, body) {
    this.model = model;
    this.answers = [...body.querySelectorAll("section[data-name=tokens] .wb-a")];
    this.answers.forEach((answer, row) => {
      let at = -1;
      const move = (token) => {
        const tokens = tokensOf(answer);
        tokens[at]?.classList.remove("wb-here");
        at = Math.min(tokens.length - 1, Math.max(0, token));
        tokens[at].classList.add("wb-here");
        answer.setAttribute("aria-label", tokens[at].title.replaceAll("\n", ", "));
      };
      answer.tabIndex = 0;
      answer.setAttribute("role", "group");
      answer.setAttribute("aria-label", answer.textContent);
      answer.addEventListener("click", (event) => {
        const token = tokensOf(answer).indexOf(event.target.closest(".wb-a > :is(span,u)"));
        if (token >= 0 && getSelection().isCollapsed) this.choose(row, token);
      });
      answer.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (step) move(at + step);
        else if ((event.key === "Enter" || event.key === " ") && at >= 0) this.choose(row, at);
        else return;
        event.preventDefault();
      });
    });
    this.mark(false);
  }

  choose(row, token) {
    const [a, b] = this.model.get("chosen");
    this.model.set("chosen", a === row && b === token ? [] : [row, token]);
    this.model.save_changes();
  }

  mark(scroll = true) {
    this.marked?.classList.remove("wb-cur");
    const [row, token] = this.model.get("chosen");
    this.marked = this.answers[row] && tokensOf(this.answers[row])[token];
    this.marked?.classList.add("wb-cur");
    if (scroll) this.marked?.scrollIntoView({ block: "nearest" });
  }
}

/** A button a scorer; those that are pressed are shown. A cell of the matrix shows its two alone. */
const chooseScorers = (root, frame, shown) => {
  const blocks = [...frame.querySelectorAll(".wb-pair")];
  const nameOf = (block) => block.querySelector("span").textContent;
  const names = [...new Set(blocks.map(nameOf))];
  for (const name of names) shown.add(name);
  const buttons = new Map();
  const update = () => {
    for (const block of blocks) block.hidden = !shown.has(nameOf(block));
    for (const [name, button] of buttons) button.setAttribute("aria-pressed", shown.has(name));
  };
  const toggle = (name) => {
    shown.has(name) && shown.size > 1 ? shown.delete(name) : shown.add(name);
    update();
  };
  for (const name of names) {
    buttons.set(name, el("button", { type: "button", class: "wb-chip", onclick: () => toggle(name) }, name));
  }
  const all = el("button", { type: "button", class: "wb-chip", onclick: () => (names.forEach((n) => shown.add(n)), update()) }, "all");
  frame.prepend(el("div", { class: "wb-chips", role: "group", "aria-label": "scorers shown" }, ...buttons.values(), all));
  const heads = [...root.querySelectorAll(".wb-agr thead th")].slice(1).map((th) => th.textContent);
  for (const row of root.querySelectorAll(".wb-agr tbody tr")) {
    const first = row.querySelector("th").textContent;
    [...row.querySelectorAll("td")].forEach((cell, i) => {
      const show = () => {
        shown.clear();
        for (const name of [first, heads[i]]) if (names.includes(name)) shown.add(name);
        if (!shown.size) names.forEach((n) => shown.add(n));
        update();
      };
      const button = el("button", { type: "button", class: "wb-cell", "aria-label": `${cell.textContent}: show ${first} and ${heads[i]}`, onclick: show });
      button.append(...cell.childNodes);
      cell.append(button);
    });
  }
  update();
};

/** Sections as tabs, and a search: at once over the rows that are here, then by Python over all answers. */
class Tabs {
  constructor(model) {
    this.model = model;
    this.chosen = 0;
    this.list = el("div", { role: "tablist", "aria-label": "what is shown", class: "wb-tabs" });
    this.list.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = (this.buttons.indexOf(event.target) + step + this.buttons.length) % this.buttons.length;
      this.open(next);
      this.buttons[next].focus();
      event.preventDefault();
    });
    this.search = el("input", { type: "search", placeholder: "find a text", "aria-label": "search all answers" });
    this.search.value = model.get("search");
    this.search.addEventListener("input", () => {
      this.filter();
      clearTimeout(this.timer);
      this.timer = setTimeout(() => {
        model.set("search", this.search.value);
        model.save_changes();
      }, 200);
    });
    this.note = el("span", { class: "wb-note", "aria-live": "polite" });
    this.head = el("div", { class: "wb wb-head" }, this.list, el("span", {}, this.note, " ", this.search));
  }

  update(sections) {
    this.sections = sections;
    this.buttons = sections.map((section, i) => {
      section.id ||= `wb-tab-${Math.random().toString(36).slice(2)}`;
      section.setAttribute("role", "tabpanel");
      section.setAttribute("aria-label", section.dataset.name);
      section.tabIndex = 0;
      return el("button", { type: "button", role: "tab", class: "wb-tab", "aria-controls": section.id, onclick: () => this.open(i) }, section.dataset.name);
    });
    this.list.replaceChildren(...this.buttons);
    this.open(Math.min(this.chosen, sections.length - 1));
    this.filter();
  }

  open(chosen) {
    this.chosen = chosen;
    this.sections.forEach((section, i) => (section.hidden = i !== chosen));
    this.buttons.forEach((button, i) => {
      button.setAttribute("aria-selected", i === chosen);
      button.tabIndex = i === chosen ? 0 : -1;
    });
  }

  filter() {
    const words = this.search.value;
    const everywhere = this.model.get("searched") === words; // these rows are what Python has found
    const wanted = words.trim().toLowerCase();
    for (const section of this.sections) {
      for (const row of section.querySelectorAll(".wb-row")) {
        row.hidden = !everywhere && !row.textContent.toLowerCase().includes(wanted);
      }
    }
    this.note.textContent = everywhere || !wanted ? "" : "in the answers shown:";
  }
}

export default {
  render({ model, el: host }) {
    const root = el("div", { class: "wb-linked" });
    const body = el("div");
    let tabs = null;
    let choice = null;
    const scorers = new Set();
    const part = () => tabs?.sections[tabs.chosen]?.dataset.name;
    const by = () => BY[/wb-by(\d)/.exec(body.querySelector("input[class*=wb-by]:checked")?.className)?.[1]];
    const shown = () => ({ ...(scorers.size && { scorers: [...scorers] }), ...(part() && { part: part() }), ...(by() && { by: by() }) });
    const saving = saver(model, "figure", shown);
    const draw = () => {
      body.innerHTML = model.get("html");
      const frame = body.querySelector(".wb-cmp");
      if (frame) {
        scorers.clear();
        chooseScorers(body, frame, scorers);
        linkTokens(frame);
      }
      const sections = [...body.querySelectorAll("section")];
      if (!sections.length) return;
      if (!tabs) root.prepend((tabs = new Tabs(model)).head);
      tabs.update(sections);
      choice = new Choice(model, body);
    };
    const mark = () => choice?.mark();
    const filter = () => tabs?.filter();
    root.append(body, el("div", { class: "wb wb-saving" }, el("div", { class: "wb-foot" }, saving.node)));
    model.on("change:html", draw);
    model.on("change:searched", filter);
    model.on("change:chosen", mark);
    draw();
    const release = guardKeys(root);
    host.append(root);
    return () => {
      release();
      saving.remove();
      model.off("change:html", draw);
      model.off("change:searched", filter);
      model.off("change:chosen", mark);
    };
  },
};

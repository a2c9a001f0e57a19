// The boxes of the playground. A text is sent once no key has come for a moment; `typed` counts what was sent.

const area = (name, rows, hint) => {
  const node = el("textarea", { rows, placeholder: hint, spellcheck: "false", "aria-label": name, dir: "auto" });
  return { node, label: el("label", { class: "wb-typed" }, el("span", {}, name), node) };
};

class Typing {
  constructor(model, root) {
    this.model = model;
    this.root = root;
    this.timer = null;
    this.question = area("question", 1, "a question, or leave it empty for plain text");
    this.answer = area("answer", 4, "type an answer, or a text");
    for (const name of ["question", "answer"]) {
      this[name].node.value = model.get(name);
      this[name].node.addEventListener("input", () => this.later());
    }
    this.scorer = el("select", { onchange: () => this.send() });
    this.unit = el("select", { onchange: () => this.set("unit", this.unit.value) });
    for (const [value, text] of [["token", "tokens"], ["word", "words"]]) this.unit.append(el("option", { value }, text));
    this.ask = el("button", { type: "button", class: "wb-button", onclick: () => this.greedy() });
    this.use = el("button", { type: "button", class: "wb-button", onclick: () => model.send({ do: "use" }) }, "Use it as the answer");
    this.state = el("span", { class: "wb-last", role: "status" });
    this.problem = el("div", { class: "wb-problem", role: "alert" });
    this.reply = el("div", { class: "wb-reply" });
    const control = (name, node) => el("label", { class: "wb-control" }, `${name} `, node);
    root.append(
      el("div", { class: "wb-bar" }, el("span", {}, model.get("about"))),
      el("div", { class: "wb-boxes" }, this.question.label, this.answer.label),
      el("div", { class: "wb-bar" }, control("scorer", this.scorer), control("show", this.unit), this.ask, this.state),
      this.problem, this.reply,
    );
    const names = ["question", "answer", "scorers", "scorer", "unit", "typed", "shown", "problem", "note", "reply"];
    this.listeners = names.map((name) => [`change:${name}`, () => this.update(name)]);
    for (const [name, call] of this.listeners) model.on(name, call);
    this.choices();
    this.update();
  }

  choices() {
    const groups = [["one pass", false], ["many passes", true]].map(([label, many]) => {
      const group = el("optgroup", { label });
      for (const [name, slow] of this.model.get("scorers")) if (slow === many) group.append(el("option", { value: name }, name));
      return group;
    });
    this.scorer.replaceChildren(...groups.filter((group) => group.children.length));
  }

  later() {
    clearTimeout(this.timer);
    this.waiting = true;
    this.timer = setTimeout(() => this.send(), this.model.get("pause"));
    this.status();
  }

  send() {
    clearTimeout(this.timer);
    this.waiting = false;
    this.model.set("question", this.question.node.value);
    this.model.set("answer", this.answer.node.value);
    this.model.set("scorer", this.scorer.value);
    this.set("typed", this.model.get("typed") + 1);
  }

  set(name, value) {
    this.model.set(name, value);
    this.model.save_changes();
  }

  greedy() {
    if (this.waiting) this.send(); // what stands in the box is what is asked
    this.model.send({ do: this.streams() ? "stop" : "greedy" });
  }

  streams() {
    const { text, ended } = this.model.get("reply");
    return text !== undefined && !ended;
  }

  update(what) {
    const { model } = this;
    for (const name of ["question", "answer"]) {
      const { node } = this[name];
      // What is being typed is newer than what Python has.
      if (!this.waiting && node.value !== model.get(name) && (what === name || !what)) node.value = model.get(name);
    }
    if (what === "scorers") this.choices();
    this.scorer.value = model.get("scorer");
    this.unit.value = model.get("unit");
    this.problem.textContent = model.get("problem");
    this.status();
    if (!what || what === "reply") this.answered();
  }

  status() {
    const late = this.waiting || this.model.get("typed") > this.model.get("shown");
    this.state.textContent = late ? "scoring …" : this.model.get("note");
    this.root.classList.toggle("wb-late", late);
  }

  answered() {
    const { to, text, ended } = this.model.get("reply");
    this.ask.textContent = this.streams() ? "Stop" : "Greedy answer";
    if (text === undefined) return this.reply.replaceChildren();
    const [kind, about] = to;
    const how = { end: "", length: " It was cut off at the token limit.", stopped: " Stopped.", "": " …" }[ended];
    const head = kind === "answers" ? "The model answers “" : "The model continues “";
    const head_ = el("div", { class: "wb-q", dir: "auto" }, head, ...drawn(about), `”.${how}`);
    this.reply.replaceChildren(head_, el("div", { class: "wb-a", dir: "auto" }, ...drawn(text)), ...(ended ? [this.use] : []));
  }

  remove() {
    clearTimeout(this.timer);
    for (const [name, call] of this.listeners) this.model.off(name, call);
  }
}

export default {
  render({ model, el: host }) {
    host.classList.add("wb-host");
    const root = el("div", { class: "wb wb-live wb-typing" });
    host.replaceChildren(root);
    const typing = new Typing(model, root);
    return () => typing.remove();
  },
};

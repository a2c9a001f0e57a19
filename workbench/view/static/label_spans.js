// Labelling spans: words are options of a list; what is chosen goes to Python, which writes the file.

class Labels {
  constructor(model, root) {
    Object.assign(this, { model, root, here: 0, anchor: null });
    const button = (text, call, hint) => el("button", { type: "button", class: "wb-button", title: hint, onclick: call }, text);
    this.place = el("b", { "aria-live": "polite" });
    this.note = el("span", { class: "wb-last", role: "status" });
    this.question = el("div", { class: "wb-q", dir: "auto" });
    this.list = el("div", { class: "wb-a", dir: "auto", role: "listbox", "aria-multiselectable": "true", "aria-label": "words of the answer" });
    this.problem = el("div", { class: "wb-problem", role: "alert" });
    this.previous = button("Previous", () => this.go(-1), "key p");
    this.next = button("Next", () => this.go(1), "key n");
    this.none = button("No fact here", () => model.send({ do: "none" }), "key 0");
    this.clear = button("Clear", () => model.send({ do: "clear" }), "make this answer unlabelled again");
    const unlabelled = button("Next unlabelled", () => this.unlabelled(), "key u");
    const undo = button("Undo", () => model.send({ do: "undo" }), "key z");
    root.append(
      el("div", { class: "wb-bar" }, this.place, this.note),
      el("div", { class: "wb-row" }, this.question, this.list),
      el("div", { class: "wb-bar wb-tools" }, this.previous, this.next, unlabelled, this.none, this.clear, undo),
      this.problem,
      el("div", { class: "wb-foot" }, "Click the words that carry the fact; drag, or hold Shift, for a stretch. Keys: arrows move, " +
        "Space marks, Shift and an arrow mark a stretch, n and p go to the next and previous answer, u to the next unlabelled one, 0 says there is no fact, z undoes."),
    );
    root.addEventListener("keydown", (event) => this.key(event));
    this.list.addEventListener("pointerdown", (event) => this.press(event));
    this.list.addEventListener("pointerover", (event) => this.drag(event));
    this.release = () => this.commit();
    window.addEventListener("pointerup", this.release);
    this.listeners = [["change:shown", () => this.draw()], ["change:answer", () => this.draw()]];
    for (const name of ["marks", "done", "note", "problem"]) this.listeners.push([`change:${name}`, () => this.update()]);
    for (const [name, call] of this.listeners) model.on(name, call);
    this.draw();
  }

  draw() {
    const { question, texts } = this.model.get("shown");
    const focused = this.list.contains(document.activeElement);
    this.question.replaceChildren(...drawn(question));
    this.words = [];
    this.gaps = [];
    this.list.replaceChildren(...texts.map((text, i) => {
      const node = i % 2 ? el("span", { role: "option", tabindex: "-1" }) : el("i", { role: "presentation", style: "font-style:normal" });
      node.append(...drawn(text));
      (i % 2 ? this.words : this.gaps).push(node);
      return node;
    }));
    [this.here, this.anchor, this.pending] = [0, null, null];
    this.update();
    if (focused) this.words[0]?.focus();
  }

  get marks() {
    return this.pending ?? new Set(this.model.get("marks"));
  }

  update() {
    const [answer, done, marks] = [this.model.get("answer"), this.model.get("done"), this.marks];
    this.words.forEach((node, i) => {
      node.setAttribute("aria-selected", marks.has(i));
      node.tabIndex = i === this.here ? 0 : -1;
    });
    this.gaps.forEach((node, i) => node.classList.toggle("wb-joined", marks.has(i - 1) && marks.has(i)));
    this.place.textContent = `answer ${answer + 1} of ${done.length}: ${done[answer] ? (marks.size ? "labelled" : "no fact here") : "not labelled yet"}`;
    this.none.setAttribute("aria-pressed", done[answer] && !marks.size);
    this.previous.disabled = answer === 0;
    this.next.disabled = answer === done.length - 1;
    this.clear.disabled = !done[answer];
    this.note.textContent = this.model.get("note");
    this.problem.textContent = this.model.get("problem");
  }

  /** The marks as they were, with a stretch marked or unmarked. */
  stretch(from, to, on) {
    const marks = new Set(this.start);
    for (let i = Math.min(from, to); i <= Math.max(from, to); i++) marks[on ? "add" : "delete"](i);
    this.pending = marks;
    this.here = to;
    this.update();
  }

  commit() {
    if (!this.pending) return;
    const marks = [...this.pending].sort((a, b) => a - b);
    [this.pending, this.pressed] = [null, null];
    this.model.set("marks", marks);
    this.model.save_changes();
    this.update();
  }

  indexOf(event) {
    return this.words.indexOf(event.target.closest("[role=option]"));
  }

  press(event) {
    const at = this.indexOf(event);
    if (at < 0 || event.button) return;
    event.preventDefault();
    this.start = this.marks;
    const on = event.shiftKey || !this.start.has(at);
    const from = event.shiftKey && this.anchor !== null ? this.anchor : at;
    this.pressed = { from, on };
    this.anchor = from;
    this.stretch(from, at, on);
    this.words[at].focus();
  }

  drag(event) {
    const at = this.indexOf(event);
    if (at >= 0 && this.pressed && event.buttons & 1) this.stretch(this.pressed.from, at, this.pressed.on);
  }

  go(by) {
    const to = this.model.get("answer") + by;
    if (to < 0 || to >= this.model.get("done").length) return;
    this.model.set("answer", to);
    this.model.save_changes();
  }

  unlabelled() {
    const [answer, done] = [this.model.get("answer"), this.model.get("done")];
    const by = [...done.keys()].find((n) => n && !done[(answer + n) % done.length]);
    if (by) this.go(((answer + by) % done.length) - answer);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) {
      if (event.key.toLowerCase() !== "z" || event.altKey) return;
      event.preventDefault();
      return this.model.send({ do: "undo" });
    }
    const onWord = this.list.contains(event.target);
    const move = { ArrowRight: 1, ArrowLeft: -1, Home: -this.here, End: this.words.length - 1 - this.here }[event.key];
    const calls = { n: () => this.go(1), p: () => this.go(-1), u: () => this.unlabelled(), z: () => this.model.send({ do: "undo" }), 0: () => this.model.send({ do: "none" }) };
    if (calls[event.key]) calls[event.key]();
    else if (onWord && move !== undefined) {
      const to = Math.max(0, Math.min(this.words.length - 1, this.here + move));
      if (event.shiftKey) {
        this.anchor ??= this.here;
        this.start = this.marks;
        this.stretch(this.anchor, to, true);
        this.commit();
      } else {
        this.here = to;
        this.anchor = to;
        this.update();
      }
      this.words[to]?.focus();
    } else if (onWord && (event.key === " " || event.key === "Enter")) {
      this.start = this.marks;
      this.anchor = this.here;
      this.stretch(this.here, this.here, !this.start.has(this.here));
      this.commit();
    } else return;
    event.preventDefault();
  }

  remove() {
    window.removeEventListener("pointerup", this.release);
    for (const [name, call] of this.listeners) this.model.off(name, call);
  }
}

export default {
  render({ model, el: host }) {
    const root = el("div", { class: "wb wb-live wb-labels" });
    const labels = new Labels(model, root);
    const unguard = guardKeys(root);
    host.append(root);
    return () => {
      unguard();
      labels.remove();
    };
  },
};

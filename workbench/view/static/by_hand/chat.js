// The chat: turns that Python has drawn (its templates escape every text), answers that stream, and the next question.

const press = (text, call, more = {}) => el("button", { type: "button", class: "wb-button", onclick: call, ...more }, text);

class ChatView {
  constructor(model, root) {
    this.model = model;
    this.root = root;
    this.log = el("div", { class: "wb-log" });
    this.stream = el("div", { class: "wb-log" });
    this.earlier = el("div");
    this.fold = el("details", { class: "wb-earlier" }, el("summary", {}, "Asked before"), this.earlier);
    this.prompt = el("textarea", { rows: 2, "aria-label": "question to all models", placeholder: "one question for all models; Enter asks, Shift+Enter starts a new line", dir: "auto" });
    this.prompt.addEventListener("keydown", (event) => this.key(event));
    this.ask = press("Ask", () => this.send(false));
    this.again = press("Ask as another turn", () => this.send(true), { title: "continue after the turns above (Ctrl+Enter)" });
    this.halt = press("Stop", () => model.send({ do: "stop" }));
    this.more = press("Sample ten more", () => model.send({ do: "more" }));
    this.temperature = el("input", { type: "number", min: 0.1, max: 100, step: 0.1, onchange: () => this.number("temperature") });
    this.seed = el("input", { type: "number", step: 1, onchange: () => this.number("seed") });
    this.needle = el("input", { type: "search", placeholder: "a text", oninput: () => this.later() });
    this.mode = el("select", { onchange: () => this.set("mode", this.mode.value) });
    for (const mode of ["words that differ", "change in probability"]) this.mode.append(el("option", { value: mode }, mode));
    this.state = el("span", { class: "wb-last", role: "status" });
    this.note = el("span", { class: "wb-note" });
    this.problem = el("div", { class: "wb-problem", role: "alert" });
    this.legend = el("div", { class: "wb-foot" });
    this.saver = saver(model, "chat");
    const control = (name, node) => el("label", { class: "wb-control" }, `${name} `, node);
    const bar = (...nodes) => el("div", { class: "wb-bar" }, ...nodes);
    root.append(
      bar(...model.get("about").map((line) => el("span", {}, line))),
      this.fold, this.log, this.stream, this.legend, this.problem,
      el("div", { class: "wb-boxes" }, this.prompt),
      bar(this.ask, this.again, this.halt, control("show", this.mode), this.state),
      bar(this.more, control("temperature", this.temperature), control("seed", this.seed), control("count answers with", this.needle)),
      bar(press("Export JSONL", () => model.send({ do: "jsonl" })), press("Export HTML", () => model.send({ do: "html" })), this.saver.node, this.note),
    );
    this.log.addEventListener("click", (event) => this.open(event));
    const names = ["html", "earlier", "legend", "live", "busy", "problem", "note", "asked", "turns", "mode", "needle", "temperature", "seed"];
    this.listeners = names.map((name) => [`change:${name}`, () => this.update(name)]);
    for (const [name, call] of this.listeners) model.on(name, call);
    this.update();
  }

  key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    event.stopPropagation();
    const again = event.ctrlKey || event.metaKey;
    if (!(again ? this.again : this.ask).disabled) this.send(again);
  }

  send(again) {
    this.sent = this.prompt.value;
    this.flush();
    this.model.send({ do: "ask", question: this.prompt.value, another_turn: again });
  }

  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush(), 150);
  }

  flush() {
    clearTimeout(this.timer);
    if (this.model.get("needle") !== this.needle.value) this.set("needle", this.needle.value);
  }

  number(name) {
    const value = Number(this[name].value);
    if (this[name].value !== "" && Number.isFinite(value)) this.set(name, name === "seed" ? Math.trunc(value) : value);
    else this[name].value = this.model.get(name);
  }

  set(name, value) {
    this.model.set(name, value);
    this.model.save_changes();
  }

  /** A click on an answer opens its heatmap, unless a part of it is being selected. */
  open(event) {
    const node = event.target.closest("[data-name]");
    if (node && (node.tagName === "BUTTON" || getSelection().isCollapsed)) this.model.send({ do: "open", place: node.dataset.name.split(" ").map(Number) });
  }

  update(what) {
    const { model } = this;
    const changed = (name) => !what || what === name;
    if (changed("html")) this.draw();
    if (changed("earlier")) this.earlier.innerHTML = model.get("earlier");
    this.fold.hidden = !this.earlier.childNodes.length;
    if (changed("live")) this.flow(model.get("live"));
    if (changed("asked") && what && this.prompt.value === this.sent) this.prompt.value = "";
    for (const name of ["mode", "temperature", "seed"]) if (changed(name)) this[name].value = model.get(name);
    if (!what) this.needle.value = model.get("needle");
    const busy = model.get("busy");
    this.state.textContent = busy ? `${busy} …` : "";
    this.problem.textContent = model.get("problem");
    this.note.textContent = model.get("note");
    this.legend.textContent = model.get("legend");
    this.legend.hidden = !model.get("turns");
    this.ask.disabled = Boolean(busy);
    this.again.disabled = this.more.disabled = Boolean(busy) || !model.get("turns");
    this.halt.disabled = !busy;
  }

  /** The turns; those samples stay unfolded that were, and the focus stays on its button. */
  draw() {
    const open = [...this.log.querySelectorAll("details")].map((node) => node.open);
    const focused = this.log.contains(document.activeElement) ? document.activeElement.dataset.name : null;
    this.log.innerHTML = this.model.get("html");
    this.log.querySelectorAll("details").forEach((node, i) => (node.open = open[i] ?? false));
    if (focused) this.log.querySelector(`button[data-name="${focused}"]`)?.focus();
  }

  flow({ question, texts }) {
    this.stream.hidden = texts === undefined;
    if (texts === undefined) return this.stream.replaceChildren();
    const column = (text, i) => el("div", { class: "wb-column" }, el("div", { class: "wb-q" }, el("b", {}, ...drawn(this.model.get("labels")[i]))), el("div", { class: "wb-a", dir: "auto" }, ...drawn(text), "▍"));
    this.stream.replaceChildren(el("div", { class: "wb-row wb-turn" }, el("div", { class: "wb-q", dir: "auto" }, ...drawn(question)), el("div", { class: `wb-columns-${texts.length}` }, ...texts.map(column))));
  }

  remove() {
    clearTimeout(this.timer);
    this.saver.remove();
    for (const [name, call] of this.listeners) this.model.off(name, call);
  }
}

export default {
  render({ model, el: host }) {
    host.classList.add("wb-host");
    const root = el("div", { class: "wb wb-live wb-chatting" });
    host.replaceChildren(root);
    const chat = new ChatView(model, root);
    return () => chat.remove();
  },
};

// The card of one token: every scorer's number, and its probability before and after a run.

class Card {
  constructor(root, scores) {
    this.scores = scores;
    this.node = el("div", { class: "wb-card", id: `wb-card-${Math.random().toString(36).slice(2)}` });
    this.node.setAttribute("popover", "manual"); // in the top layer: no scrolling parent cuts it off
    this.node.setAttribute("role", "tooltip");
    root.append(this.node);
  }

  show(token, mark, step) {
    this.node.replaceChildren(...this.content(token, step));
    if (!this.node.matches(":popover-open")) this.node.showPopover();
    const at = mark.getClientRects()[0] ?? mark.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = this.node;
    const below = at.bottom + 6 + height < innerHeight;
    this.node.style.left = `${Math.max(4, Math.min(at.left, innerWidth - width - 8))}px`;
    this.node.style.top = `${below ? at.bottom + 6 : Math.max(4, at.top - height - 6)}px`;
  }

  hide() {
    if (this.node.matches(":popover-open")) this.node.hidePopover();
  }

  content(token, step) {
    const { head, spans } = this.scores;
    const sample = head.samples.findLast((each) => each.first <= token);
    const i = token - sample.first;
    const text = sample.texts[i] === "" ? ["", "∎"] : (sample.texts[i] ?? "");
    const where = spans[token] < 0 ? "" : ` · ${spans[token] ? "in" : "not in"} a labelled span`;
    const place = `token ${i + 1} of ${sample.texts.length}${where}`;
    const out = [el("div", { class: "wb-card-head" }, "“", ...drawn(text), "” ", el("small", {}, place))];
    out.push(el("table", {}, ...this.scores.layers.map((layer) => this.row(layer, token, step))));
    const phases = [this.scores.detail(0, token), this.scores.detail(1, token)];
    if (phases[0] && phases[1]) out.push(this.change(...phases));
    return out;
  }

  row(layer, token, step) {
    const value = this.scores.value(layer, step, token);
    const known = Number.isFinite(value) && layer.scale && !layer.scale.flat;
    const level = this.scores.level(layer, value);
    const bar = [];
    if (known) {
      bar.push(el("i", level < this.scores.middle ? { class: "wb-minus" } : {}));
      bar[0].style.width = `${Math.round(100 * Math.abs(this.scores.place(layer, value)))}%`;
    }
    const own = this.scores.stepOf(layer, step);
    const when = own === step ? [] : [el("small", {}, ` step ${own}`)]; // beside numbers of another step
    return el("tr", {}, el("th", {}, layer.name, ...when), el("td", {}, number(value)), el("td", {}, ...bar));
  }

  change(before, after) {
    const line = (name, list) =>
      el("div", {}, `${name}: `, ...list.flatMap(([text, p]) => [el("span", {}, "“", ...drawn(text), `” ${number(p)}`), " "]));
    return el(
      "div",
      { class: "wb-card-change" },
      el("div", {}, `probability ${number(before.probability)} → `, el("b", {}, number(after.probability)),
        ` · rank ${before.rank} → ${after.rank}`),
      ...this.scores.head.phases.map((name, i) => line(name, [before, after][i].alternatives)),
    );
  }
}

// The text itself: one row a sample, coloured by the numbers. Rows out of sight wait until they are scrolled to.

class Text {
  constructor(scores, on) {
    this.scores = scores;
    this.on = on; // {hover(token, mark), leave(), choose(tokens)}
    this.current = -1;
    this.chosen = [];
    this.marks = new Array(scores.count);
    this.box = el("div", { class: "wb-text", tabindex: "0", role: "listbox",
      "aria-multiselectable": "true", "aria-label": "tokens; arrow keys move" });
    this.rows = scores.head.samples.map((sample, i) => this.row(sample, i));
    this.box.append(...this.rows.map((row) => row.node));
    this.watcher = new IntersectionObserver((seen) => this.seen(seen), { root: this.box, rootMargin: "300px 0px" });
    for (const row of this.rows) this.watcher.observe(row.node);
    this.listen();
  }

  row(sample, index) {
    const answer = el("div", { class: "wb-a", dir: "auto" });
    const whole = sample.texts.map((text, i) => plainText(sample.gaps[i] ?? "") + plainText(text ?? "")).join("");
    answer.textContent = whole + plainText(sample.gaps["-1"] ?? "");
    const ask = plainText(sample.ask) ? [el("div", { class: "wb-q", dir: "auto" }, ...drawn(sample.ask))] : [];
    const label = plainText(sample.ask) || `sample ${sample.id}`;
    const node = el("div", { class: "wb-row", role: "group", "aria-label": label, title: `sample ${sample.id}` }, ...ask, answer);
    const row = { sample, index, node, answer, filled: false, painted: "", near: false, words: `${label}\n${whole}`.toLowerCase() };
    node.wbRow = row;
    return row;
  }

  /** Tokens in place of the plain text. */
  fill(row) {
    const { sample } = row;
    const nodes = [];
    sample.texts.forEach((text, i) => {
      nodes.push(...drawn(sample.gaps[i] ?? ""));
      if (text === null) return;
      const token = sample.first + i;
      const mark = el("span", { role: "option", "aria-selected": "false" });
      mark.append(...drawn(text === "" ? ["", " ∎", ""] : text));
      mark.wbToken = token;
      mark.wbBase = this.scores.spans[token] === 1 ? "wb-s" : "";
      this.marks[token] = mark;
      nodes.push(mark);
    });
    nodes.push(...drawn(sample.gaps["-1"] ?? ""));
    row.answer.replaceChildren(...nodes);
    row.filled = true;
  }

  seen(entries) {
    for (const entry of entries) {
      const row = entry.target.wbRow;
      row.near = entry.isIntersecting;
      if (row.near) this.paintRow(row);
    }
  }

  /** Show a state: layer, step, unit and threshold. Rows in sight now, the others when they come into sight. */
  paint(state) {
    this.state = state;
    this.values = this.scores.values(state.layer, state.step, state.unit);
    this.key = [state.layer.name, state.step, state.unit, state.threshold, this.scores.by, ...this.chosen].join("\n");
    for (const row of this.rows) if (row.near && !row.node.hidden) this.paintRow(row);
  }

  paintRow(row) {
    if (!this.state || row.painted === this.key) return;
    if (!row.filled) this.fill(row);
    const { layer, unit, threshold } = this.state;
    const { palette } = this.scores.head;
    const { of } = this.scores.units[unit];
    const { first, texts } = row.sample;
    for (let token = first; token < first + texts.length; token++) {
      const mark = this.marks[token];
      if (!mark) continue;
      const value = this.values[of[token]];
      const level = this.scores.level(layer, value);
      if (mark.wbLevel !== level) {
        mark.wbLevel = level;
        mark.style.backgroundColor = level === this.scores.middle ? "" : palette[level];
      }
      let name = this.scores.selects(layer, value, threshold) ? `${mark.wbBase} wb-on` : mark.wbBase;
      if (Number.isNaN(value)) name += " wb-na";
      if (this.chosen.includes(token)) name += " wb-chosen";
      if (mark.className !== name) mark.className = name;
    }
    row.painted = this.key;
  }

  /** Show the samples that hold `words` and are `scored`, in the order of `values` (largest first) or in their own. */
  arrange(words, values, scored) {
    const search = words.trim().toLowerCase();
    let shown = 0;
    for (const row of this.rows) {
      row.node.hidden = !(row.words.includes(search) && scored[row.index]);
      shown += !row.node.hidden;
    }
    const order = [...this.rows];
    if (values) order.sort((a, b) => (values[b.index] ?? -Infinity) - (values[a.index] ?? -Infinity) || a.index - b.index);
    this.order = order;
    if (order.some((row, i) => this.box.children[i] !== row.node)) this.box.replaceChildren(...order.map((r) => r.node));
    return shown;
  }

  words() {
    return this.rows.map((row) => row.words).join("\n");
  }

  choose(tokens) {
    const rows = [...this.chosen, ...tokens].map((each) => this.rows.findLast((row) => row.sample.first <= each));
    for (const token of this.chosen) this.marks[token]?.setAttribute("aria-selected", "false");
    this.chosen = tokens;
    for (const row of rows) if (row) row.painted = "";
    this.paint(this.state);
    for (const token of tokens) this.marks[token]?.setAttribute("aria-selected", "true");
  }

  /** What is chosen after a token was clicked: that token alone or, with a key held, it beside the others. */
  toggled(token, add) {
    const others = add ? this.chosen.filter((each) => each !== token) : [];
    const off = this.chosen.includes(token) && (add || this.chosen.length === 1);
    return off ? others : [...others, token];
  }

  /** Move the keyboard's place. */
  go(token) {
    this.marks[this.current]?.classList.remove("wb-cur");
    this.current = token;
    const row = this.rows.findLast((each) => each.sample.first <= token);
    if (!row.filled) this.paintRow(row);
    const mark = this.marks[token];
    mark.classList.add("wb-cur");
    mark.id ||= `wb-t${Math.random().toString(36).slice(2)}`;
    this.box.setAttribute("aria-activedescendant", mark.id);
    mark.scrollIntoView({ block: "nearest" });
    this.on.hover(token, mark);
  }

  /** The token that a key leads to: the next or last one before, of the next row, a page away, or at the very end. */
  neighbour(step, by) {
    const rows = (this.order ?? this.rows).filter((row) => !row.node.hidden);
    const drawnIn = (row) => row.sample.texts.map((t, i) => (t === null ? -1 : row.sample.first + i)).filter((t) => t >= 0);
    const at = rows.findIndex((r) => this.current >= r.sample.first && this.current < r.sample.first + r.sample.texts.length);
    if (!rows.length) return -1;
    if (by === "end") return drawnIn(rows.at(step > 0 ? -1 : 0)).at(step > 0 ? -1 : 0);
    if (at < 0) return drawnIn(rows[0])[0];
    if (by === "page") {
      const aim = rows[at].node.offsetTop + step * 0.9 * this.box.clientHeight;
      let next = step > 0 ? rows.findIndex((r) => r.node.offsetTop >= aim) : rows.findLastIndex((r) => r.node.offsetTop <= aim);
      if (next < 0) next = step > 0 ? rows.length - 1 : 0;
      return drawnIn(rows[next])[0];
    }
    if (by === "row") return drawnIn(rows[Math.min(rows.length - 1, Math.max(0, at + step))])[0];
    const tokens = drawnIn(rows[at]);
    const next = tokens.indexOf(this.current) + step;
    if (next >= 0 && next < tokens.length) return tokens[next];
    const other = rows[at + step];
    return other ? drawnIn(other).at(step > 0 ? 0 : -1) : this.current;
  }

  listen() {
    const tokenAt = (event) => event.target.closest?.("[role=option]");
    this.box.addEventListener("mouseover", (event) => {
      const mark = tokenAt(event);
      if (mark) this.on.hover(mark.wbToken, mark);
      else this.on.leave();
    });
    this.box.addEventListener("mouseleave", () => this.on.leave());
    this.box.addEventListener("scroll", () => this.on.leave(), { passive: true });
    this.box.addEventListener("blur", () => this.on.leave());
    this.box.addEventListener("click", (event) => {
      const mark = tokenAt(event);
      const add = event.ctrlKey || event.metaKey || event.shiftKey;
      if (mark && (add || getSelection().isCollapsed)) this.on.choose(this.toggled(mark.wbToken, add));
    });
    this.box.addEventListener("mousedown", (event) => event.shiftKey && event.preventDefault()); // marks no text
    const moves = {
      ArrowRight: [1, "token"], ArrowLeft: [-1, "token"], ArrowDown: [1, "row"], ArrowUp: [-1, "row"],
      PageDown: [1, "page"], PageUp: [-1, "page"], End: [1, "end"], Home: [-1, "end"],
    };
    this.box.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (moves[event.key]) {
        const token = this.neighbour(...moves[event.key]);
        if (token !== undefined && token >= 0) this.go(token);
      } else if ((event.key === "Enter" || event.key === " ") && this.current >= 0) {
        this.on.choose(this.toggled(this.current, event.shiftKey));
      } else if (event.key === "Escape") {
        this.on.leave();
        this.on.choose([]);
      } else return;
      event.preventDefault();
    });
  }
}

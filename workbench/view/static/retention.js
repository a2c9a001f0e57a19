// The retention matrix made interactive: arrow keys move in it, the cell is read out below, a click or Enter opens its
// answers. The HTML is the static twin from the templates, which escape every text.

const MOVES = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };

class Matrix {
  constructor(frame, choose) {
    this.box = frame.querySelector(".wb-retained");
    this.table = this.box.querySelector("table");
    this.rows = [...this.table.querySelectorAll("tr")].map((row) => [...row.querySelectorAll("td")]).filter((row) => row.length);
    this.place = null; // [row, column] of the cell that is read out
    this.choose = choose;
    for (const name of ["tabindex", "role", "aria-label"]) this.box.removeAttribute(name);
    this.table.setAttribute("role", "grid");
    this.table.setAttribute("aria-label", "requests and sets; arrow keys move, Enter opens the answers");
    this.table.tabIndex = 0;
    this.readout = el("div", { class: "wb-readout", role: "status" }, "Click a cell, or move with the arrow keys and press Enter, for its answers.");
    this.box.after(this.readout);
    this.listen();
  }

  show([row, column]) {
    const cell = this.rows[row]?.[column];
    if (!cell) return null;
    this.table.querySelector(".wb-cur")?.classList.remove("wb-cur");
    cell.classList.add("wb-cur");
    cell.id ||= `wb-m${Math.random().toString(36).slice(2)}`;
    this.table.setAttribute("aria-activedescendant", cell.id);
    this.place = [row, column];
    this.readout.textContent = cell.title;
    return cell;
  }

  mark(chosen) {
    for (const cell of this.rows.flat()) {
      const own = chosen.length === 2 && Number(cell.dataset.after) === chosen[0] && Number(cell.dataset.set) === chosen[1];
      cell.classList.toggle("wb-chosen", own);
      cell.setAttribute("aria-selected", own);
    }
  }

  open([row, column]) {
    const cell = this.rows[row]?.[column];
    if (cell) this.choose([Number(cell.dataset.after), Number(cell.dataset.set)]);
  }

  listen() {
    const at = (event) => {
      const cell = event.target.closest?.("td");
      const row = this.rows.findIndex((cells) => cells.includes(cell));
      return [row, row < 0 ? -1 : this.rows[row].indexOf(cell)];
    };
    this.table.addEventListener("mouseover", (event) => this.show(at(event)));
    this.table.addEventListener("click", (event) => this.open(at(event)));
    this.table.addEventListener("focus", () => this.place ?? this.show([0, 0]));
    this.table.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const [row, column] = this.place ?? [0, 0];
      const within = (i, last) => Math.min(last, Math.max(0, i));
      const to = (r, c) => this.show([r, within(c, this.rows[r].length - 1)]).scrollIntoView({ block: "nearest", inline: "nearest" });
      if (MOVES[event.key]) {
        const [down, right] = MOVES[event.key];
        to(within(row + down, this.rows.length - 1), column + right);
      } else if (event.key === "Home") to(row, 0);
      else if (event.key === "End") to(row, this.rows[row].length - 1);
      else if (event.key === "Enter" || event.key === " ") this.open([row, column]);
      else if (event.key === "Escape") this.choose([]);
      else return;
      event.preventDefault();
    });
  }
}

export default {
  render({ model, el: host }) {
    const root = el("div", { class: "wb-linked" });
    const shown = el("div", {});
    const detail = el("div", { "aria-live": "polite" });
    root.append(shown, detail);
    let matrix = null;
    const set = (name, value) => {
      model.set(name, value);
      model.save_changes();
    };
    const savers = [];
    const draw = () => {
      const focused = matrix && document.activeElement === matrix.table;
      const place = matrix?.place;
      for (const saving of savers.splice(0)) saving.remove();
      shown.innerHTML = model.get("html");
      const frame = shown.querySelector(".wb-retention");
      matrix = new Matrix(frame, (chosen) => set("chosen", chosen));
      const pick = (name, choices, label) => {
        if (choices.length < 2) return [];
        const select = el("select", { "aria-label": label, onchange: () => set(name, select.value) });
        select.append(...choices.map((choice) => el("option", { value: choice }, choice)));
        select.value = model.get(name);
        return [el("span", {}, label), select];
      };
      const controls = [...pick("metric", model.get("metrics"), "metric"), ...pick("seed", model.get("seeds"), "answers of seed")];
      if (controls.length) frame.prepend(el("div", { class: "wb-pick" }, ...controls));
      const saving = saver(model, "retention", () => ({}), ["svg", "pdf", "png"]);
      savers.push(saving);
      const foot = el("div", { class: "wb-foot" });
      foot.append(saving.node);
      frame.append(foot);
      matrix.mark(model.get("chosen"));
      if (place) matrix.show(place);
      if (focused) matrix.table.focus({ preventScroll: true });
    };
    const open = () => {
      detail.innerHTML = model.get("detail");
    };
    const mark = () => matrix.mark(model.get("chosen"));
    const listeners = [["change:html", draw], ["change:detail", open], ["change:chosen", mark]];
    for (const [name, call] of listeners) model.on(name, call);
    host.append(root);
    draw();
    open();
    const release = guardKeys(root);
    return () => {
      release();
      for (const saving of savers) saving.remove();
      for (const [name, call] of listeners) model.off(name, call);
    };
  },
};

// What the model expected at a place of the text, the most probable first; a click puts it there.

export default {
  render({ model, el: host }) {
    host.classList.add("wb-host");
    const root = el("div", { class: "wb wb-live wb-next" });
    host.replaceChildren(root);
    const draw = () => {
      const { chosen, token, probability, rank, rows } = model.get("place");
      root.hidden = rows === undefined;
      if (rows === undefined) return;
      const name = !chosen ? ["What the model expects after the text"] : token === "" ? ["The end of the answer"] : ["“", ...drawn(token), "”"];
      const numbers = chosen ? [`probability ${probability}, rank ${rank}`] : [];
      const head = el("div", { class: "wb-bar", role: "status" }, el("b", {}, ...name), ...numbers.map((text) => el("span", {}, text)));
      const list = el("ol", { "aria-label": "most probable tokens; choose one to insert it" });
      rows.forEach(([text, shown, share, usable], row) => {
        const bar = el("i");
        bar.style.width = `${Math.round(100 * share)}%`;
        const take = el("button", { type: "button", class: "wb-button", onclick: () => model.send({ do: "take", row }) }, ...drawn(text === "" ? ["", "∎"] : text));
        take.disabled = !usable; // it ends the turn
        list.append(el("li", {}, take, el("span", {}, shown), el("span", { class: "wb-meter" }, bar)));
      });
      root.replaceChildren(head, list);
    };
    model.on("change:place", draw);
    draw();
    return () => model.off("change:place", draw);
  },
};

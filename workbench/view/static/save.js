// Buttons that download what is shown as a figure. Python draws it, so a figure is the same from a button and from `save`.

const FIGURES = { svg: ["SVG", "image/svg+xml"], pdf: ["PDF", "application/pdf"], png: ["PNG", "image/png"], tex: ["LaTeX", "text/x-tex"] };

/** The row of buttons, and what ends it; `shown` gives what only the browser knows of the view. */
const saver = (model, name, shown = () => ({}), formats = Object.keys(FIGURES), what = "save figure") => {
  const node = document.createElement("span");
  const note = document.createElement("span");
  const state = { id: 0, timer: null };
  node.className = "wb-save";
  node.setAttribute("role", "group");
  node.setAttribute("aria-label", what === "save figure" ? "download as a figure" : what);
  note.setAttribute("role", "status");
  node.append(`${what} `);
  const say = (text) => {
    clearTimeout(state.timer);
    note.textContent = text;
  };
  for (const format of formats) {
    const [label] = FIGURES[format];
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "wb-button wb-figure", textContent: label });
    button.setAttribute("aria-label", `download as ${label}`);
    button.addEventListener("click", () => {
      state.id += 1;
      say("drawing …");
      const silent = "no kernel is running: run the cell again, then download";
      if (!model.send) return say(silent);
      state.timer = setTimeout(() => say(silent), 20_000);
      model.send({ save: format, id: state.id, shown: shown() });
    });
    node.append(button);
  }
  node.append(note);
  const answered = (content, buffers) => {
    if (!content.saved || content.id !== state.id) return;
    if (content.error) return say(content.error);
    say("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([buffers[0]], { type: FIGURES[content.saved][1] }));
    link.download = `${name}.${content.saved}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  model.on("msg:custom", answered);
  return { node, remove: () => model.off("msg:custom", answered) };
};

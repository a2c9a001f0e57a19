// Beside other widgets: guards their keys (keys.js), and says so when no kernel is behind them any more.

const LOST = "jupyter-widgets-disconnected"; // what ipywidgets adds to a widget whose kernel has restarted
const CONTROLS = "select,input,textarea,button";

/** Where the kernel has gone: a line that says it, and no control that seems to work. */
const watchKernel = (root) => {
  const notice = document.createElement("div");
  notice.className = "wb-lost";
  notice.setAttribute("role", "alert");
  notice.textContent = "The kernel has restarted: what is shown here is old and no longer followed. Run the cell again.";
  const look = () => {
    const lost = root.classList.contains(LOST);
    if (lost === notice.isConnected) return;
    if (lost) root.prepend(notice);
    else notice.remove();
    for (const node of root.querySelectorAll(CONTROLS)) {
      if (lost && !node.disabled) {
        node.disabled = true;
        node.dataset.wbLost = "";
      } else if (!lost && "wbLost" in node.dataset) {
        node.disabled = false;
        delete node.dataset.wbLost;
      }
    }
  };
  const watcher = new MutationObserver(look);
  watcher.observe(root, { attributes: true, attributeFilter: ["class"] });
  look();
  return () => watcher.disconnect();
};

export default {
  render({ el }) {
    el.style.display = "none";
    let ends = [];
    const begin = requestAnimationFrame(() => {
      const root = el.closest(".wb-guarded");
      if (root) ends = [guardKeys(root), watchKernel(root)];
    });
    return () => {
      cancelAnimationFrame(begin);
      for (const end of ends) end();
    };
  },
};

// Small things every part of the token view uses. All text reaches the page as text, never as HTML.

const el = (tag, props = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
};

/** Text and marks for invisible characters, by turns, as nodes. */
const drawn = (parts) =>
  typeof parts === "string"
    ? [document.createTextNode(parts)]
    : parts.map((text, i) => (i % 2 ? el("i", { class: "wb-x" }, text) : document.createTextNode(text)));

const plainText = (parts) => (typeof parts === "string" ? parts : parts.join(""));

const NOT_AVAILABLE = "not available";
const BY = ["value", "rank", "logarithm"]; // what colour goes by

/** A number for people, as `view.html.number` writes it. */
const number = (value, digits = 2) => {
  if (value === null || value === undefined || !Number.isFinite(value)) return NOT_AVAILABLE;
  const size = Math.abs(value);
  let text = size >= 1000 ? Math.round(value).toLocaleString("en-US") : value.toFixed(digits);
  if (size > 0 && size < 10 ** -digits) text = size < 1e-4 ? value.toExponential(0) : String(Number(value.toPrecision(1)));
  if (Number(text) === 0) text = text.replace("-", "");
  return text.replaceAll("-", "−");
};

/** Calls `what` at once and then at most once in `wait` milliseconds; the last call is never lost. */
const throttled = (what, wait) => {
  let timer = null;
  let again = false;
  const call = () => {
    if (timer) {
      again = true;
      return;
    }
    what();
    timer = setTimeout(() => {
      timer = null;
      if (again) {
        again = false;
        call();
      }
    }, wait);
  };
  return call;
};

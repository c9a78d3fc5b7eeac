// Key presses inside the nearest .imgclf-panel go to Python, and not to the notebook, where `d d` would delete the cell.

const PANEL = ".imgclf-panel";
const KEEPS_FOCUS = "input, textarea, select, [contenteditable]:not([contenteditable='false']), [role='slider']";
const PRESSED_BY_KEY = "button, summary, a[href]"; // Space and Enter press it, if somebody tabbed there
const CHOSEN_AT_ONCE = "select, input[type='checkbox'], input[type='radio']";
const MOST_UNANSWERED = 8;
const MOST_FRAMES = 300; // about 5 s in the page without a panel around it: it was put elsewhere

// What `event` is called in `wanted`, and null if it is not wanted.
function match(event, wanted) {
  if (event.altKey || event.isComposing) return null;
  const ctrl = event.ctrlKey || event.metaKey;
  const named = names(event).find((name) => wanted.includes(ctrl && name.length === 1 && name !== " " ? `Ctrl+${name}` : name));
  return named === undefined ? null : { key: named, shift: event.shiftKey, ctrl };
}

// The character first; then what is printed on the key, for keyboards where a digit needs Shift or letters are not Latin.
function names(event) {
  if (event.key.length > 1) return [event.key];
  const found = [event.key.toLowerCase()];
  const [, digit] = event.code.match(/^(?:Digit|Numpad)(\d)$/) ?? [];
  const [, letter] = event.code.match(/^Key([A-Z])$/) ?? [];
  if (digit) found.push(digit);
  if (letter && event.key > "~") found.push(letter.toLowerCase());
  return found;
}

// JupyterLab is to save on Ctrl+S, but looks at no key below an element with this attribute: it is off for this one event.
function letThrough(panel) {
  panel.removeAttribute("data-lm-suppress-shortcuts");
  setTimeout(() => panel.setAttribute("data-lm-suppress-shortcuts", "true"));
}

function listen(panel, model, { signal, count }) {
  const send = (event) => {
    const key = match(event, model.get("wanted"));
    if (!key) return;
    event.preventDefault();
    if (event.repeat && count.sent - model.get("handled") >= MOST_UNANSWERED) return;
    count.sent += 1;
    model.send(key);
  };
  const focus = () => panel.focus({ preventScroll: true });
  const pressed = (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s") return letThrough(panel);
    event.stopPropagation();
    if (event.target.closest(KEEPS_FOCUS)) return event.key === "Escape" && focus();
    if ((event.key === " " || event.key === "Enter") && event.target.closest(PRESSED_BY_KEY)) return;
    send(event);
  };

  panel.tabIndex = 0;
  panel.setAttribute("data-lm-suppress-shortcuts", "true");
  panel.addEventListener("keydown", pressed, { signal });
  panel.addEventListener("click", (event) => event.target.closest(KEEPS_FOCUS) || focus(), { signal });
  panel.addEventListener("change", (event) => event.target.matches(CHOSEN_AT_ONCE) && focus(), { signal });
  watchIdle(panel, model, { signal, count });
}

function watchIdle(panel, model, { signal, count }) {
  let timer;
  const active = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      count.sent = model.get("handled"); // answers that got lost, as when the kernel restarts, are waited for no longer
      model.send({ idle: true });
    }, 1000 * model.get("idle_seconds"));
  };
  for (const type of ["keydown", "click"]) panel.addEventListener(type, active, { signal, capture: true });
  signal.addEventListener("abort", () => clearTimeout(timer));
}

// The view is made before it is put into its container.
function whenInside(el, signal, found) {
  let frames = 0;
  const look = () => {
    if (signal.aborted) return;
    const panel = el.closest(PANEL);
    if (panel) return found(panel);
    if (el.isConnected && ++frames > MOST_FRAMES) return console.warn(`imgclf: Keys found no element ${PANEL} around it`);
    requestAnimationFrame(look);
  };
  look();
}

export default () => {
  const count = { sent: 0 }; // of all views of the model, as `handled` is
  return {
    initialize({ model }) {
      count.sent = model.get("handled");
    },
    render({ model, el }) {
      const gone = new AbortController();
      el.style.display = "none";
      whenInside(el, gone.signal, (panel) => listen(panel, model, { signal: gone.signal, count }));
      return () => gone.abort();
    },
  };
};

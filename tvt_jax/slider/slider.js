// Two pictures over each other. Dragging, the slider below or the arrow keys move the border between them. A click or
// Enter magnifies; then dragging, the mouse or the arrow keys move what is seen.
function slider(name, width, height) {
  const make = (tag, attributes) => {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const box = make("button", { type: "button", class: "pair", "aria-label": `magnify ${name}`, "aria-pressed": false });
  box.style.aspectRatio = `${width} / ${height}`;
  const under = make("img", { alt: "", draggable: false }), over = make("img", { alt: "", class: "over", draggable: false });
  const range = make("input", { type: "range", min: 0, max: 100, step: "any", value: 50, class: "between", "aria-label": "share of the left picture" });
  box.append(under, over);
  const clip = (value) => Math.min(100, Math.max(0, value));
  const at = { x: 50, y: 50 };
  const show = () => {
    for (const [key, value] of [["--cut", +range.value], ["--x", at.x], ["--y", at.y]]) box.style.setProperty(key, `${value}%`);
  };
  const zoomed = () => box.classList.contains("zoomed");
  const point = (event) => {
    const { left, top, width, height } = box.getBoundingClientRect();
    return { x: clip(100 * (event.clientX - left) / width), y: clip(100 * (event.clientY - top) / height) };
  };
  const zoom = (on) => {
    box.classList.toggle("zoomed", on);
    box.setAttribute("aria-pressed", on);
  };
  let from = null, dragged = false;
  box.onpointerdown = (event) => {
    from = { ...point(event), at: { ...at } };
    dragged = false;
    if (event.isTrusted) box.setPointerCapture(event.pointerId);
  };
  box.onpointermove = (event) => {
    const { x, y } = point(event);
    if (from && Math.hypot(x - from.x, y - from.y) > 1) dragged = true;
    if (from && dragged && zoomed()) Object.assign(at, { x: clip(from.at.x - (x - from.x) / 3), y: clip(from.at.y - (y - from.y) / 3) });
    else if (from && dragged) range.value = x;
    else if (!from && zoomed() && event.pointerType === "mouse") Object.assign(at, { x, y });
    show();
  };
  box.onpointerup = box.onpointercancel = () => { from = null; };
  box.onclick = (event) => {
    if (dragged) return void (dragged = false);
    const pointed = event.detail > 0;  // 0: by the keyboard
    if (!zoomed()) Object.assign(at, pointed ? point(event) : { x: 50, y: 50 });
    zoom(!zoomed());
    show();
  };
  box.onkeydown = (event) => {
    const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (event.key === "Escape" && zoomed()) zoom(false);
    else if (zoomed() && (x || y)) Object.assign(at, { x: clip(at.x + 5 * x), y: clip(at.y + 5 * y) });
    else if (x) range.value = +range.value + 2 * x;
    else return;
    event.preventDefault();
    event.stopPropagation();
    show();
  };
  range.oninput = show;
  show();
  return { box, range, under, over };
}

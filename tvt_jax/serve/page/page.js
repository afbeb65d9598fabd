"use strict";
const find = (id) => document.getElementById(id);
const fixes = { adain: "match overall", wavelet: "match place by place", none: "as restored" };
const cards = new Map();  // key -> what is on the page of a picture
let about = null;  // what the server told at the start
let timer = 0;
let lost = false;  // whether the server could not be reached when we last looked

// Asks the server; throws an Error whose message is a sentence.
async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(`api/${path}`, options);
  } catch {
    throw new Error("The server can't be reached. Is it still running?");
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Error(told.error ?? `The server answered ${answer.status}.`);
}

// Says an error in a place, and nothing where it goes well.
async function saying(place, work) {
  place.textContent = "";
  try {
    return await work();
  } catch (error) {
    place.textContent = error.message;
  }
}

const strength = () => find("strength").value / 100;
const megapixels = (picture) => picture.width * picture.height / 1e6;

function duration(seconds) {
  if (seconds < 1) return "a moment";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function progressText({ state, ahead, share, left }) {
  const rest = left == null ? "" : `, about ${duration(left)} left`;
  if (state === "waiting") return `${ahead ? `${ahead} before it` : "next"}${rest}`;
  return `${share ? `${Math.floor(100 * share)} %` : "working"}${rest}`;
}

async function add(files) {
  const problems = [];
  find("said").textContent = "";
  document.body.setAttribute("aria-busy", true);
  for (const file of files) {
    find("limits").textContent = `reading ${file.name} …`;
    try {
      if (file.size > about.bytes) throw new Error(`${file.name} has ${Math.round(file.size / 1e6)} MB, which is more than this page takes`);
      const query = new URLSearchParams({ visitor: about.visitor, name: file.name });
      show(await (await ask(`pictures?${query}`, { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } })).json());
    } catch (error) {
      problems.push(error.message);
    }
    find("said").textContent = problems.join("\n");
  }
  document.body.removeAttribute("aria-busy");
  tellLimits();
}

function tellLimits() {
  find("limits").textContent = `${about.kinds.join(", ")}, up to ${about.megapixels} megapixels each`;
}

// Puts what the server told of a picture onto the page.
function show(picture) {
  const card = cards.get(picture.key) ?? make(picture);
  card.picture = picture;
  const { job, view } = picture, open = job && ["waiting", "working"].includes(job.state);
  card.open = open;
  card.find(".progress").hidden = !open;
  if (open) {
    const bar = card.find("progress");
    if (job.share) bar.value = job.share;
    else bar.removeAttribute("value");
    card.find(".progress span").textContent = progressText(job);
  }
  if (job?.error) card.find(".error").textContent = job.error;
  for (const name of [".try", ".restore"]) card.find(name).disabled = open;
  card.find(".download").hidden = !picture.restored;
  card.find(".restore").classList.toggle("main", (Boolean(view) || card.find(".try").hidden) && !picture.restored);
  card.find(".try").classList.toggle("main", !view);
  card.find(".download").classList.toggle("main", picture.restored);
  if (view && view.id !== card.shown) compare(card, view);
  const several = cards.size > 1, shown = [...cards.values()];
  find("all").hidden = !several;
  find("download-all").disabled = !shown.some(({ picture }) => picture.restored);
  find("restore-all").disabled = !shown.some((card) => !card.open);
  wait();
}

function make(picture) {
  const element = find("card").content.cloneNode(true).firstElementChild;
  const card = { key: picture.key, element, picture, find: (name) => element.querySelector(name), part: [0, 0] };
  const { width, height, name } = picture, side = about.trial, whole = width <= side && height <= side;
  element.setAttribute("aria-label", name);
  card.find("h2").textContent = name;
  card.find(".small").src = `api/pictures/${picture.key}/small`;
  card.find(".warnings").textContent = picture.warnings.join("; ");
  card.find(".try").hidden = whole;
  card.find(".hint").textContent = whole ? "" : "The frame is what is tried: click, drag, or use the arrow keys.";
  element.classList.toggle("whole", whole);
  card.find(".picker").setAttribute("aria-label", whole ? name : `part of ${name} to try; arrow keys move it`);
  card.find(".picker").disabled = whole;
  picker(card);
  const start = (part) => saying(card.find(".error"), async () => { show(await (await begin(card, part)).json()); });
  card.find(".try").onclick = () => start(card.part);
  card.find(".restore").onclick = () => start(null);
  card.find(".stop").onclick = () => saying(card.find(".error"), () => ask(`pictures/${card.key}/job`, { method: "DELETE" }));
  card.find(".remove").onclick = () => saying(find("said"), () => remove(card));
  card.find(".remove").setAttribute("aria-label", `remove ${name}`);
  card.find(".download").onclick = (event) => saying(card.find(".error"), () =>
    save(event.target, `pictures/${card.key}/result?strength=${strength()}`, card.picture.result));
  cards.set(picture.key, card);
  find("pictures").append(element);
  sizes();
  return card;
}

function begin(card, part) {
  const question = { model: find("model").value, scale: Number(find("scale").value), colorFix: find("colors").value, part };
  return ask(`pictures/${card.key}/job`, { method: "POST", body: JSON.stringify(question), headers: { "Content-Type": "application/json" } });
}

async function remove(card) {
  await ask(`pictures/${card.key}`, { method: "DELETE" }).catch(() => {});  // if it can't be reached, it forgets by itself
  drop(card);
}

function drop(card) {
  card.element.remove();
  cards.delete(card.key);
  for (const { picture } of cards.values()) show(picture);
  if (cards.size < 2) find("all").hidden = true;
  find("choose").focus();
}

// Moves the frame over the small picture.
function picker(card) {
  const { width, height } = card.picture, side = about.trial, box = card.find(".picker"), frame = card.find(".frame");
  const size = [Math.min(side, width), Math.min(side, height)], most = [width - size[0], height - size[1]];
  const move = (left, top) => {
    card.part = [left, top].map((start, i) => Math.round(Math.min(most[i], Math.max(0, start))));
    Object.assign(frame.style, { left: `${100 * card.part[0] / width}%`, top: `${100 * card.part[1] / height}%`,
      width: `${100 * size[0] / width}%`, height: `${100 * size[1] / height}%` });
  };
  const follow = (event) => {
    const { left, top, width: wide, height: high } = card.find(".small").getBoundingClientRect();
    move(width * (event.clientX - left) / wide - size[0] / 2, height * (event.clientY - top) / high - size[1] / 2);
  };
  box.onpointerdown = (event) => { box.setPointerCapture(event.pointerId); follow(event); };
  box.onpointermove = (event) => { if (event.buttons) follow(event); };
  box.onkeydown = (event) => {
    const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (!x && !y) return;
    event.preventDefault();
    move(card.part[0] + x * size[0] / 4, card.part[1] + y * size[1] / 4);
  };
  move(most[0] / 2, most[1] / 2);
}

function compare(card, view) {
  const pane = card.find(".result"), { box, range, under, over } = slider(card.picture.name, view.width, view.height);
  card.shown = view.id;
  pane.style.setProperty("--ratio", view.width / view.height);
  [under.src, over.src] = ["before", "after"].map((layer) => `api/pictures/${card.key}/${layer}?view=${view.id}`);
  [under.alt, over.alt] = [`${card.picture.name}, enlarged`, `${card.picture.name}, restored`];
  pane.querySelector(".shown").textContent = [view.part ? "part" : "whole", `${view.width} × ${view.height}`,
    view.share < 1 ? `shown at ${Math.round(100 * view.share)} %` : ""].filter(Boolean).join(", ");
  for (const old of pane.querySelectorAll(".pair, .between")) old.remove();
  pane.append(box, range);
  pane.hidden = false;
}

// Fetches a file and has the browser save it, so that a refusal is a sentence and not a broken file.
async function save(button, path, name) {
  const text = button.textContent;
  button.disabled = true;
  button.textContent = "Preparing …";
  try {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await (await ask(path)).blob());
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  } finally {
    button.textContent = text;
    button.disabled = false;
  }
}

// Looks how the pictures stand: often while something is worked on, and else so that the server knows of us.
function wait() {
  clearTimeout(timer);
  if (cards.size) timer = setTimeout(look, [...cards.values()].some(({ open }) => open) ? 400 : 20000);
}

async function look() {
  try {
    const told = await (await ask(`visitors/${about.visitor}`)).json(), keys = new Set(told.map(({ key }) => key));
    if (lost) find("said").textContent = "";
    lost = false;
    for (const picture of told) if (cards.has(picture.key)) show(picture);
    for (const card of [...cards.values()]) if (!keys.has(card.key)) forgotten(card);
  } catch (error) {
    find("said").textContent = error.message;
    lost = true;
  }
  wait();
}

function forgotten(card) {
  if (!card.open && card.gone) return;
  Object.assign(card, { gone: true, open: false });
  card.find(".progress").hidden = true;
  for (const button of card.element.querySelectorAll(".actions button")) button.disabled = true;
  card.find(".error").textContent = "The server holds this photo no more. Choose it again to go on.";
}

function sizes() {
  const scale = Number(find("scale").value);
  for (const card of cards.values()) {
    const { width, height } = card.picture;
    card.find(".size").textContent = `${width} × ${height} → ${Math.round(width * scale)} × ${Math.round(height * scale)}`;
  }
}

const options = (select, pairs) => select.replaceChildren(...pairs.map(([value, text]) => new Option(text, value)));

function choices() {
  const model = about.models.find(({ name }) => name === find("model").value);
  find("colors").value = model.colorFix;
}

async function prepare() {
  about = await (await ask("start")).json();
  options(find("model"), about.models.map(({ name }) => [name, name]));
  options(find("scale"), [1, 1.5, 2, 3, 4, 6, 8].map((scale) => [scale, `${scale}×`]));
  options(find("colors"), about.colorFixes.map((fix) => [fix, fixes[fix] ?? fix]));
  find("scale").value = 4;
  find("models").hidden = about.models.length < 2;
  find("model").onchange = choices;
  find("scale").onchange = sizes;
  choices();
  tellLimits();
}

find("strength").oninput = () => {
  find("strong").textContent = `${find("strength").value} %`;
  document.documentElement.style.setProperty("--strength", strength());
};
find("choose").onclick = () => find("files").click();
find("files").onchange = async (event) => { await add([...event.target.files]); event.target.value = ""; };
document.onpaste = (event) => { if (event.clipboardData.files.length) add([...event.clipboardData.files]); };
document.ondragover = (event) => { event.preventDefault(); document.body.classList.add("over"); };
document.ondragleave = (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); };
document.ondrop = (event) => { event.preventDefault(); document.body.classList.remove("over"); add([...event.dataTransfer.files]); };
find("restore-all").onclick = () => saying(find("said"), async () => {
  for (const card of cards.values()) if (!card.open && !card.gone) show(await (await begin(card, null)).json());
});
find("download-all").onclick = (event) => saying(find("said"), () => save(event.target, `visitors/${about.visitor}/zip?strength=${strength()}`, "restored.zip"));
find("remove-all").onclick = () => saying(find("said"), async () => { for (const card of [...cards.values()]) await remove(card); });
window.addEventListener("pagehide", () => { if (about) navigator.sendBeacon(`api/visitors/${about.visitor}/forget`); });
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
saying(find("said"), prepare);

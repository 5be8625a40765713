"use strict";
const results = document.getElementById("results");
const head = document.getElementById("head");
const announcement = document.getElementById("status");
const input = document.getElementById("files");
const maxMegabytes = Number(document.body.dataset.maxMegabytes);
const RETRIES = 20;
const MOST_RESULTS = 100;
let last = Promise.resolve();

/** An element with a class and a text; texts of files and of the server are never read as HTML. */
function element(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

function percent(probability) {
  return `${(100 * probability).toFixed(1)}%`;
}

/** A card with a thumbnail, where the browser can show the file. */
function newCard(file, name) {
  const card = element("article", "card result");
  const thumbnail = element("div", "thumbnail");
  const image = element("img");
  image.alt = "";
  image.addEventListener("load", () => {
    image.classList.toggle("small", image.naturalWidth <= 96);
    URL.revokeObjectURL(image.src);
  });
  image.addEventListener("error", () => {
    thumbnail.textContent = "no preview";
    URL.revokeObjectURL(image.src);
  });
  image.src = URL.createObjectURL(file);
  thumbnail.append(image);
  const content = element("div");
  content.append(element("h3", "", name), element("p", "note", "waiting for the model"));
  card.append(thumbnail, content);
  return card;
}

/** The answer of the server as an object with predictions, or with an error. */
async function ask(file, retries = RETRIES) {
  if (file.size > maxMegabytes * 1e6) {
    return {error: `${(file.size / 1e6).toFixed(1)} MB; allowed: ${maxMegabytes} MB`};
  }
  const type = file.type.startsWith("image/") ? file.type : "application/octet-stream";
  let answer;
  try {
    answer = await fetch("/predict", {method: "POST", headers: {"Content-Type": type}, body: file});
  } catch {
    return {error: "no answer: the file cannot be read, or the server was stopped"};
  }
  if (answer.status === 503 && retries) {
    await new Promise(resolve => setTimeout(resolve, 1000));
    return ask(file, retries - 1);
  }
  try {
    return await answer.json();
  } catch {
    return {error: `the server answered ${answer.status}`};
  }
}

function row({class: label, probability}) {
  const item = element("li");
  const track = element("span", "track");
  const bar = element("span", "bar");
  track.setAttribute("aria-hidden", "true");
  bar.style.width = percent(probability);
  track.append(bar);
  item.append(element("span", "name", label), track, element("span", "value", percent(probability)));
  return item;
}

function show(content, name, answer) {
  content.lastChild.remove();
  if (answer.error) {
    content.append(element("p", "error", answer.error));
    announcement.textContent = `${name}: ${answer.error}`;
    return;
  }
  const [best] = answer.predictions;
  const bars = element("ol", "bars");
  bars.setAttribute("aria-label", "Classes with their probabilities, most likely first");
  bars.append(...answer.predictions.map(row));
  const notes = [`${Math.max(1, Math.round(1000 * answer.seconds))} ms`, ...answer.changes];
  const heading = element("p", "answer", best.class);
  const marks = [...(answer.unsure ? ["unsure"] : []), ...(answer.unlike ? ["unlike training"] : [])];
  heading.append(...marks.map(word => element("span", "mark", word)));
  content.append(heading, bars, element("p", "note", notes.join(" · ")));
  announcement.textContent = [`${name}: ${best.class}, ${percent(best.probability)}`, ...marks].join(", ");
}

/** Ask about files, one after another; their cards are above those of earlier files, of which old ones are removed. */
function classify(files) {
  const cards = files.map(file => newCard(file, nameOf(file)));
  results.prepend(...cards);
  while (results.children.length > Math.max(MOST_RESULTS, cards.length)) results.lastChild.remove();
  head.hidden = !results.children.length;
  files.forEach((file, index) => {
    last = last.then(() => ask(file)).then(answer => show(cards[index].lastChild, nameOf(file), answer));
  });
}

function nameOf(file) {
  return file.name || "pasted image";
}

input.addEventListener("change", () => {
  classify([...input.files]);
  input.value = "";  // the same file can be chosen again
});
document.addEventListener("paste", event => {
  if (event.clipboardData.files.length) classify([...event.clipboardData.files]);
});
document.addEventListener("dragover", event => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", event => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
document.addEventListener("drop", event => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  classify([...event.dataTransfer.files]);
});
document.getElementById("clear").addEventListener("click", () => {
  results.replaceChildren();
  head.hidden = true;
  input.focus();
});

"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const cards = [...document.querySelectorAll(".finding")].filter(card => card.querySelector(".fix"));
const save = document.getElementById("save");
const filter = document.getElementById("filter");
const chips = [...document.querySelectorAll(".chips button")];
const hidden = new Set();  // kinds of which the findings that are not shown are marked too
let saved = true;

const box = card => card.querySelector("input[type=checkbox]");
const menu = card => card.querySelector("select");
const text = card => card.querySelector("input[type=text]");

/** The lines of one finding. */
function lines(file, related, action, label) {
  if (action === "other") return [[related, "drop", ""]];
  if (action === "group") return [[file, "group", related]];
  return [[file, action, action === "relabel" ? label : ""]];
}

/** All marked fixes. */
function marked() {
  const rows = [];
  for (const kind of hidden) rows.push(...data.hidden[kind].flatMap(row => lines(...row)));
  for (const card of cards) {
    if (!box(card).checked) continue;
    const action = menu(card).value;
    rows.push(...lines(card.dataset.file, card.dataset.related, action, text(card).value));
  }
  return rows;
}

/** One line for a file and an action, the last, but all of its groups; a file that is left out has no other. */
function merged(rows) {
  const kept = new Map(rows.map(row => [JSON.stringify(row[1] === "group" ? row : row.slice(0, 2)), row]));
  const dropped = new Set(rows.filter(row => row[1] === "drop").map(row => row[0]));
  return [...kept.values()].filter(row => row[1] === "drop" || !dropped.has(row[0]));
}

/** A cell of a CSV file; what a spreadsheet would take for a formula begins with an apostrophe. */
function cell(value) {
  const start = value.replace(/^'+/, "");
  const safe = data.formula.some(sign => start.startsWith(sign)) ? `'${value}` : value;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function csv() {
  return [["file", "action", "label"], ...merged([...data.present, ...marked()])].map(row => row.map(cell).join(",") + "\n").join("");
}

function update() {
  for (const card of cards) {
    const relabel = menu(card).value === "relabel";
    text(card).hidden = !relabel;
    const known = data.classes.includes(text(card).value);
    text(card).setCustomValidity(relabel && box(card).checked && !known ? "one of the classes" : "");
    card.classList.toggle("fixed", box(card).checked);
  }
  const wrong = cards.filter(card => !text(card).checkValidity()).length;
  const count = merged(marked()).length;
  document.getElementById("marked").textContent = wrong ? `${wrong} without a class` : `${count} ${count === 1 ? "fix" : "fixes"}`;
  save.disabled = !count || wrong > 0;
  saved = !count;
}

function show(kind) {
  for (const section of document.querySelectorAll("section")) section.hidden = kind && section.dataset.kind !== kind;
  for (const chip of chips) chip.setAttribute("aria-pressed", chip.dataset.kind === kind);
  filter.value = kind;
}

for (const card of cards) {
  card.querySelector(".fix").hidden = false;
  box(card).addEventListener("change", update);
  menu(card).addEventListener("change", () => { box(card).checked = true; update(); });
  text(card).addEventListener("input", () => { box(card).checked = true; update(); });
}
for (const button of document.querySelectorAll("button.all")) {
  const section = button.closest("section");
  const kind = section.dataset.kind;
  const label = button.textContent;
  button.hidden = false;
  button.addEventListener("click", () => {
    const mark = button.textContent === label;
    for (const card of cards) if (section.contains(card)) box(card).checked = mark;
    if (mark) hidden.add(kind); else hidden.delete(kind);
    button.textContent = mark ? "Unmark all" : label;
    update();
  });
}
for (const chip of chips) chip.addEventListener("click", () => show(chip.dataset.kind));
filter.addEventListener("change", () => show(filter.value));
save.addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], {type: "text/csv"}));
  link.download = "fixes.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  saved = true;
});
window.addEventListener("beforeunload", event => { if (!saved) event.preventDefault(); });
document.getElementById("bar").hidden = false;
update();

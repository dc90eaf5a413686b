"use strict";
/* The table of all channels: sort, filter, choose columns, download. Without scripts it is a plain table. */
(() => {
  const table = document.getElementById("ranking-table");
  const tools = document.querySelector(".tools");
  const headings = [...table.tHead.rows[0].cells];
  const rows = [...table.tBodies[0].rows];
  const names = headings.map((heading) => heading.dataset.name);
  const filter = document.getElementById("filter");
  const foundOnly = document.getElementById("found-only");
  const choices = [...tools.querySelectorAll("fieldset input")];
  const first = new Set(choices.filter((choice) => choice.checked).map((choice) => choice.value));
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  const isText = (column) => headings[column].classList.contains("text");
  const valueOf = (row, column) => row.cells[column].dataset.value;
  const isShown = (column) => !headings[column].hidden;

  /* Rows in the order of a column; those without a value come last either way, equal ones keep their places. */
  function sortBy(column, direction) {
    const compare = isText(column) ? collator.compare : (a, b) => Number(a) - Number(b);
    const sorted = [...rows].sort((a, b) => {
      const [left, right] = [valueOf(a, column), valueOf(b, column)];
      if (left === "" || right === "") return (left === "") - (right === "");
      return direction * compare(left, right);
    });
    table.tBodies[0].append(...sorted);
    headings.forEach((heading) => heading.removeAttribute("aria-sort"));
    headings[column].setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
  }

  function filterRows() {
    const words = filter.value.trim().toLowerCase();
    const searched = ["channel", "found_by", "reads", "direction"].map((name) => names.indexOf(name));
    let count = 0;
    rows.forEach((row) => {
      const text = searched.map((column) => valueOf(row, column)).join(" ").toLowerCase();
      row.hidden = !text.includes(words) || (foundOnly.checked && !row.classList.contains("found"));
      count += row.hidden ? 0 : 1;
    });
    document.getElementById("shown").textContent = `${count} of ${rows.length} channels shown`;
  }

  function showColumns(shown) {
    choices.forEach((choice) => {
      choice.checked = shown.has(choice.value);
      const column = names.indexOf(choice.value);
      [headings[column], ...rows.map((row) => row.cells[column])].forEach((cell) => {
        cell.hidden = !choice.checked;
      });
    });
  }

  /* A cell of a CSV file. Words that a spreadsheet would take for a formula get an apostrophe before them: the rule of wording.py. */
  function csvCell(value, isWords) {
    const harmless = isWords && /^[\s\x1c-\x1f\x85\ufeff]*[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
  }

  /* What is shown, in the order shown, with the values of ranking.csv; intervals in small print are columns too. */
  function csvOfShown() {
    const columns = [];
    headings.forEach((heading, column) => {
      if (!isShown(column)) return;
      columns.push(column, ...heading.dataset.interval.split(" ").filter(Boolean).map((name) => names.indexOf(name)));
    });
    const chosen = [...new Set(columns)];
    const lines = [chosen.map((column) => names[column]).join(",")];
    [...table.tBodies[0].rows].filter((row) => !row.hidden).forEach((row) => {
      lines.push(chosen.map((column) => csvCell(valueOf(row, column), isText(column))).join(","));
    });
    return `\ufeff${lines.join("\r\n")}\r\n`; /* the mark at the start tells spreadsheets that this is UTF-8 */
  }

  function download() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csvOfShown()], { type: "text/csv;charset=utf-8" }));
    link.download = `${tools.dataset.study}-ranking.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    const onPaper = document.createElement("span"); /* headings that paper repeats have no buttons */
    onPaper.className = "on-paper";
    onPaper.textContent = heading.textContent;
    heading.replaceChildren(onPaper, button);
    button.addEventListener("click", () => {
      const current = heading.getAttribute("aria-sort");
      const startsHigh = /score|association|reliance$|adds$|stability|^n_|p_top10/.test(names[column]);
      const begin = startsHigh && !isText(column) ? -1 : 1;
      sortBy(column, current === null ? begin : current === "ascending" ? -1 : 1);
    });
  });
  headings[names.indexOf("position")].setAttribute("aria-sort", "ascending");
  filter.addEventListener("input", filterRows);
  foundOnly.addEventListener("change", filterRows);
  const chosen = () => new Set(choices.filter((choice) => choice.checked).map((choice) => choice.value));
  choices.forEach((choice) => choice.addEventListener("change", () => showColumns(chosen())));
  document.getElementById("columns-all").addEventListener("click", () => showColumns(new Set(names)));
  document.getElementById("columns-few").addEventListener("click", () => showColumns(first));
  document.getElementById("download").addEventListener("click", download);
  tools.hidden = false;
  filterRows();

  /* Buttons that copy: a file opened from disk may not use the clipboard, so the text is selected as well. */
  document.querySelectorAll(".copy").forEach((button) => {
    const label = button.textContent;
    button.hidden = false;
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copies);
      getSelection().selectAllChildren(source);
      try {
        await navigator.clipboard.writeText(source.innerText);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Selected: press Ctrl+C";
      }
      setTimeout(() => { button.textContent = label; }, 2000);
    });
  });

  /* Everything folded is printed. */
  const folded = () => [...document.querySelectorAll("main details:not(.tools details)")].filter((one) => !one.open);
  let opened = [];
  addEventListener("beforeprint", () => { opened = folded(); opened.forEach((one) => { one.open = true; }); });
  addEventListener("afterprint", () => opened.forEach((one) => { one.open = false; }));
})();

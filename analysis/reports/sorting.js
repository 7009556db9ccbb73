"use strict";
(() => {
  // Sorting: within each section, so that rates are never mixed.
  document.querySelectorAll("table.comparison").forEach((table) => {
    const heads = table.querySelectorAll("thead th");
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.addEventListener("click", () => {
        const rising = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", rising ? "ascending" : "descending");
        const key = (row) => {
          const cell = row.cells[Math.min(column, row.cells.length - 1)];
          return column && cell.dataset.value !== undefined ? Number(cell.dataset.value) : cell.textContent;
        };
        for (const body of table.tBodies) {
          const rows = [...body.rows].filter((row) => !row.classList.contains("section"));
          rows.sort((a, b) => {
            const [x, y] = [key(a), key(b)];
            if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1; // no value: last in both orders
            const order = typeof x === "number" ? x - y : String(x).localeCompare(String(y));
            return rising ? order : -order;
          });
          body.append(...rows);
        }
      });
      head.replaceChildren(button);
    });
  });
})();

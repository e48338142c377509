// Comforts only: the page reads whole without them. Text reaches the page through textContent alone.

// A copy button on every code block, where the browser lets a page write to the clipboard.
if (navigator.clipboard) {
  for (const block of document.querySelectorAll(".code")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(block.querySelector("pre").textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Not allowed";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1600);
    });
    block.append(button);
  }
}

// The weight of the token under the pointer, or reached with the arrow keys.
for (const tokens of document.querySelectorAll(".tokens")) {
  const all = [...tokens.children];
  const readout = tokens.parentElement.querySelector(".readout");
  let at = -1;
  const point = (index) => {
    all[at]?.classList.remove("pointed");
    at = index;
    const token = all[at];
    token?.classList.add("pointed");
    readout.textContent = token ? `${token.textContent.trim()}: ${token.dataset.weight}` : "";
  };
  tokens.addEventListener("pointerover", (event) => {
    const index = all.indexOf(event.target);
    if (index >= 0) point(index);
  });
  tokens.addEventListener("pointerleave", () => point(-1));
  tokens.addEventListener("blur", () => point(-1));
  tokens.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Home") point(0);
    else if (event.key === "End") point(all.length - 1);
    else if (step) point(Math.min(Math.max(at + step, 0), all.length - 1));
    else return;
    event.preventDefault();
  });
}

// The section in view, marked in the contents.
const links = new Map([...document.querySelectorAll(".contents a")].map((a) => [a.hash.slice(1), a]));
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-20% 0px -70% 0px" });
for (const section of document.querySelectorAll("section[id]")) watcher.observe(section);

// The summary alone on paper: page 1 of the whole report, where a browser has no scripts.
for (const row of document.querySelectorAll(".print-row")) {
  row.hidden = false;
  row.querySelector(".print").addEventListener("click", () => {
    document.documentElement.dataset.paper = "summary";
    print();
  });
}
addEventListener("afterprint", () => { delete document.documentElement.dataset.paper; });

// Paper cannot be clicked: open what belongs to the argument; examples and sample rows stay as the reader left them.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll(".set > details:not([open]), #reproduce details:not([open])")];
  for (const each of opened) each.open = true;
});
addEventListener("afterprint", () => {
  for (const each of opened) each.open = false;
});

// Below a figure whose marks can be pointed at, the words of the mark last pointed at or touched. Without this script the browser
// shows the same words as it shows the title of a mark.
document.addEventListener("DOMContentLoaded", () => {
  for (const figure of document.querySelectorAll("figure.turn")) {
    const told = figure.querySelector(".told");
    const tell = (event) => {
      const mark = event.target.closest && event.target.closest(".point");
      if (!mark) return;
      figure.querySelectorAll(".point.told-of").forEach((other) => other.classList.remove("told-of"));
      mark.classList.add("told-of");
      told.textContent = mark.querySelector("title").textContent;
    };
    figure.addEventListener("pointerover", tell);
    figure.addEventListener("click", tell);
  }
});

// Below a figure of maps, the values of all its panels at the place pointed at; a ring shows the place in each. The arrow keys move it.
document.addEventListener("DOMContentLoaded", () => {
  for (const figure of document.querySelectorAll("figure.maps")) {
    const maps = JSON.parse(figure.dataset.maps);
    const told = figure.querySelector(".told");
    const svg = figure.querySelector("svg");
    const panels = [...svg.querySelectorAll(".map")];
    const most = maps.axis.length - 1;
    const middle = maps.axis.findIndex((value) => value >= 0);
    const rings = panels.map(() => {
      const ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
      ring.setAttribute("r", 4);
      ring.setAttribute("class", "place");
      return ring;
    });
    const place = { up: middle, across: middle };
    const number = (value) => String(value).replace("-", "−");
    const show = () => {
      panels.forEach((panel, index) => {
        const box = panel.getBBox();
        svg.append(rings[index]);
        rings[index].setAttribute("cx", box.x + ((place.across + 0.5) / (most + 1)) * box.width);
        rings[index].setAttribute("cy", box.y + box.height - ((place.up + 0.5) / (most + 1)) * box.height);
      });
      const lines = maps.rows.map(([quantity, grids]) =>
        `${quantity}: ${Object.entries(grids).map(([name, grid]) => `${name} ${number(grid[place.up][place.across].toPrecision(3))}`).join(", ")}`);
      const where = `Moved by ${number(maps.axis[place.up])} ${maps.up}, by ${number(maps.axis[place.across])} ${maps.across}`;
      told.textContent = [`${where}.`, ...lines].join("\n");
    };
    const limit = (value) => Math.max(0, Math.min(most, value));
    const point = (event) => {
      for (const panel of panels) {
        const box = panel.getBoundingClientRect();
        const [x, y] = [(event.clientX - box.left) / box.width, (box.bottom - event.clientY) / box.height];
        if (x < 0 || x > 1 || y < 0 || y > 1) continue;
        place.across = limit(Math.floor(x * (most + 1)));
        place.up = limit(Math.floor(y * (most + 1)));
        return show();
      }
    };
    const KEYS = { ArrowUp: ["up", 1], ArrowDown: ["up", -1], ArrowRight: ["across", 1], ArrowLeft: ["across", -1] };
    const box = figure.querySelector(".exhibit-box");
    box.addEventListener("keydown", (event) => {
      if (!KEYS[event.key]) return;
      event.preventDefault();
      const [way, step] = KEYS[event.key];
      place[way] = limit(place[way] + step);
      show();
    });
    box.addEventListener("pointermove", point);
    box.addEventListener("click", point);
    told.textContent = "Point at a map, or move over it with the arrow keys, to read the values of all panels at that place.";
  }
});

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

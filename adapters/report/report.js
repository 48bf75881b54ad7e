// Moves a cursor over plots and pages with the recording, or with a slider.
(function () {
  "use strict";
  const [times, pages, xs, ys] = JSON.parse(document.getElementById("track").textContent);
  const player = document.querySelector("audio, input[type=range]");
  const sounding = player instanceof HTMLAudioElement;
  const plots = [...document.querySelectorAll("svg[data-until]")];
  const sheets = [...document.querySelectorAll("svg[data-page]")];
  document.documentElement.classList.add("live");

  const now = () => Number(sounding ? player.currentTime : player.value);

  function placeAt(seconds) {
    let low = 0;
    let high = times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] <= 100 * seconds + 0.5) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  function show() {
    const seconds = now();
    for (const plot of plots) {
      const { left, right, until } = plot.dataset;
      const share = Math.min(seconds / until, 1);
      const x = Number(left) + (right - left) * share;
      plot.querySelector(".now").setAttribute("transform", "translate(" + x.toFixed(1) + " 0)");
    }
    const i = placeAt(seconds);
    for (const sheet of sheets) {
      const cursor = sheet.querySelector(".now");
      const here = i >= 0 && Number(sheet.dataset.page) === pages[i];
      cursor.style.display = here ? "inline" : "none";
      if (!here) continue;
      const box = sheet.viewBox.baseVal;
      const x = (xs[i] / 1000) * box.width;
      const y = (ys[i] / 1000) * box.height;
      cursor.setAttribute("transform", "translate(" + x + " " + y + ")");
    }
  }

  function seek(seconds) {
    if (sounding) player.currentTime = seconds;
    else player.value = seconds;
    show();
  }

  function run() {
    show();
    if (!player.paused) requestAnimationFrame(run);
  }

  if (sounding) {
    player.addEventListener("play", run);
    player.addEventListener("seeked", show);
    player.addEventListener("error", () => document.body.classList.add("unheard"));
  } else {
    player.addEventListener("input", show);
  }
  for (const plot of plots) {
    plot.addEventListener("click", (event) => {
      const { left, right, until } = plot.dataset;
      const point = new DOMPoint(event.clientX, event.clientY);
      const x = point.matrixTransform(plot.getScreenCTM().inverse()).x;
      seek(Math.min(Math.max((x - left) / (right - left), 0), 1) * until);
    });
  }
  for (const link of document.querySelectorAll("a[data-time]")) {
    link.addEventListener("click", () => seek(Number(link.dataset.time)));
  }
  show();
})();

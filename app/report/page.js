// Draws the figures of the page in the colours of its style sheet, and again when the reader's screen turns dark or light.
"use strict";
(() => {
  const root = document.documentElement;
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  // A finger that moves over a chart is to move the page, and a narrow one has no room for buttons.
  const isTouched = matchMedia("(pointer: coarse), (max-width: 40rem)").matches;
  const dragmode = isTouched ? false : "zoom";
  const config = {
    responsive: true,
    displayModeBar: isTouched ? false : "hover",
    displaylogo: false,
    // Plotly's own button would send the chart to its makers.
    showSendToCloud: false,
    plotlyServerURL: "",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  };

  const template = () => {
    const style = getComputedStyle(root);
    const [ink, soft, rule, sheet] = ["--ink", "--soft", "--rule", "--sheet"].map((name) =>
      style.getPropertyValue(name).trim(),
    );
    const axis = {
      automargin: true,
      gridcolor: rule,
      linecolor: rule,
      tickcolor: rule,
      ticks: "outside",
      ticklen: 4,
      title: { standoff: 10 },
      zerolinecolor: soft,
      zerolinewidth: 1,
    };
    return {
      data: { heatmap: [{ textfont: { color: ink } }] },
      layout: {
        font: { color: ink, family: getComputedStyle(document.body).fontFamily, size: 12 },
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        hoverlabel: { bgcolor: sheet, bordercolor: soft, font: { color: ink }, align: "left" },
        modebar: { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: ink },
        xaxis: axis,
        yaxis: axis,
      },
    };
  };

  const draw = () => {
    const look = template();
    const drawn = figures.map(({ data, layout }, place) =>
      Plotly.react(`chart-${place}`, data, { ...layout, dragmode, template: look, uirevision: true }, config),
    );
    Promise.all(drawn).then(() => {
      root.dataset.drawn = String(drawn.length);
    });
  };

  draw();
  dark.addEventListener("change", draw);
})();

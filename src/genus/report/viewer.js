// Clouds of points that turn when dragged (or with the arrow keys). Each canvas carries its points
// as base64 int16 triples, second axis up; all clouds of a canvas turn together about their own centres.
"use strict";
const RAMP = [[72, 33, 115], [62, 74, 137], [44, 113, 142], [32, 144, 140], [53, 183, 121], [144, 215, 67], [220, 227, 25]];
for (const canvas of document.querySelectorAll("canvas.scene")) {
  const bytes = Uint8Array.from(atob(canvas.dataset.points), (c) => c.charCodeAt(0));
  const points = new Int16Array(bytes.buffer), count = Number(canvas.dataset.count), clouds = points.length / (3 * count);
  let azimuth = 0.61, elevation = 0.35, pending = false;
  const draw = () => {
    pending = false;
    const ratio = Math.min(window.devicePixelRatio || 1, 2), width = Math.round(canvas.clientWidth * ratio);
    const columns = Math.min(clouds, Math.max(2, Math.round(canvas.clientWidth / 190)));
    const cell = Math.floor(width / columns), height = cell * Math.ceil(clouds / columns);
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    const context = canvas.getContext("2d"), image = context.createImageData(width, height), pixels = image.data;
    const depth = new Float32Array(width * height).fill(-9);
    const ca = Math.cos(azimuth), sa = Math.sin(azimuth), ce = Math.cos(elevation), se = Math.sin(elevation);
    const radius = Math.max(ratio, cell * Math.min(Math.max(0.28 / Math.sqrt(count), 0.005), 0.02));
    for (let n = 0; n < clouds * count; n++) {
      const x = points[3 * n] / 32767, y = points[3 * n + 1] / 32767, z = points[3 * n + 2] / 32767;
      const right = ca * x - sa * z, back = sa * x + ca * z, up = ce * y - se * back, near = se * y + ce * back;
      const cloud = Math.floor(n / count), lens = 1 / (1 - 0.18 * near);
      const u = (cloud % columns + 0.5 + 0.42 * right * lens) * cell, v = (Math.floor(cloud / columns) + 0.5 - 0.42 * up * lens) * cell;
      const level = Math.min(Math.max((y + 1) / 2, 0), 0.999) * (RAMP.length - 1), low = Math.floor(level), part = level - low;
      const fog = 0.3 * (1 - near), size = radius * lens;
      const colour = [0, 1, 2].map((c) => (RAMP[low][c] * (1 - part) + RAMP[low + 1][c] * part) * (1 - fog) + 255 * fog);
      for (let j = Math.max(0, Math.floor(v - size)); j <= Math.min(height - 1, v + size); j++) {
        for (let i = Math.max(0, Math.floor(u - size)); i <= Math.min(width - 1, u + size); i++) {
          const at = j * width + i;
          if ((i - u) ** 2 + (j - v) ** 2 > size * size || depth[at] > near) continue;
          depth[at] = near;
          pixels[4 * at] = colour[0]; pixels[4 * at + 1] = colour[1]; pixels[4 * at + 2] = colour[2]; pixels[4 * at + 3] = 255;
        }
      }
    }
    context.putImageData(image, 0, 0);
  };
  const turn = (da, de) => {
    azimuth += da; elevation = Math.min(Math.max(elevation + de, -1.57), 1.57);
    if (!pending) { pending = true; requestAnimationFrame(draw); }
  };
  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", (event) => { if (event.buttons) turn(-event.movementX * 0.01, event.movementY * 0.01); });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0.12, 0], ArrowRight: [-0.12, 0], ArrowUp: [0, -0.12], ArrowDown: [0, 0.12] }[event.key];
    if (step) { event.preventDefault(); turn(...step); }
  });
  new ResizeObserver(draw).observe(canvas);
}

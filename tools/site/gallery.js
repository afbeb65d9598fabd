for (const place of document.querySelectorAll(".comparison")) {
  const { name, left, right, width, height } = place.dataset;
  const { box, range, under, over } = slider(name, width, height);
  under.src = left;
  over.src = right;
  place.append(box, range);
}

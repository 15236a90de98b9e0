// Areas and intersections of masks in their text form on the CPU, without decoding them to pixels.
#include <ATen/ATen.h>
#include <torch/library.h>

// As in mask_rle_cpu.cpp, whose header of the text form is used; elsewhere the reference runs.
#if defined(__GNUC__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__

#include <ATen/Parallel.h>

#include <vector>

#include "common/checks.h"
#include "mask_rle/foreground.h"
#include "mask_rle/texts.h"

namespace amodal2 {
namespace {

constexpr int64_t kGrainMasks = 256;  // work that is worth a thread

// Returns the number of foreground pixels, -1 if the text is no mask of so many pixels.
int64_t measure(RleReader reader, int64_t pixels) {
  int64_t position = 0, area = 0;
  for (bool foreground = false; !reader.done(); foreground = !foreground) {
    int64_t run = 0;
    if (reader.next(run) != nullptr || run > pixels - position) return -1;
    position += run;
    area += foreground ? run : 0;
  }
  return position == pixels ? area : -1;
}

at::Tensor areas(const at::Tensor& text, const at::Tensor& offsets, const at::Tensor& pixels) {
  constexpr const char* kName = "mask_rle_areas";
  const Texts texts = check_texts(kName, text, offsets);
  AMODAL2_CHECK_CPU(kName, pixels);
  AMODAL2_CHECK_DTYPE(kName, pixels, at::kLong);
  AMODAL2_CHECK_SIZES(kName, pixels, at::IntArrayRef({texts.count}));
  const at::Tensor dense = pixels.contiguous();
  const int64_t* expected = dense.const_data_ptr<int64_t>();
  at::Tensor found = at::empty({texts.count}, at::kLong);
  int64_t* area = found.mutable_data_ptr<int64_t>();
  at::parallel_for(0, texts.count, kGrainMasks, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) area[i] = measure(texts.reader(i), expected[i]);
  });
  return found;
}

at::Tensor intersections(const at::Tensor& text, const at::Tensor& offsets,
                         const at::Tensor& other_text, const at::Tensor& other_offsets,
                         int64_t frames, at::IntArrayRef size) {
  constexpr const char* kName = "mask_rle_intersections";
  const Texts texts = check_texts(kName, text, offsets);
  const Texts others = check_texts(kName, other_text, other_offsets);
  TORCH_CHECK_VALUE(frames > 0 && texts.count % frames == 0 && others.count % frames == 0, kName,
                    ": expected numbers of texts that frames divides, got ", texts.count, " and ",
                    others.count, " texts and ", frames, " frames");
  check_pixels(kName, "size", size);
  const int64_t rows = texts.count / frames, columns = others.count / frames;
  at::Tensor found = at::empty({frames, rows, columns}, at::kLong);
  int64_t* shared = found.mutable_data_ptr<int64_t>();
  auto read = [&](const Texts& from, int64_t i, Foreground& to) {
    const char* problem = to.read(from.reader(i), size[0], size[1]);
    TORCH_CHECK_VALUE(problem == nullptr, kName, ": expected ", problem, " (mask ", i, ")");
  };
  at::parallel_for(0, frames, 1, [&](int64_t begin, int64_t end) {
    std::vector<Foreground> present(columns);
    Foreground mask;
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t g = 0; g < columns; ++g) read(others, g * frames + t, present[g]);
      for (int64_t d = 0; d < rows; ++d) {
        read(texts, d * frames + t, mask);
        int64_t* to = shared + (t * rows + d) * columns;
        for (int64_t g = 0; g < columns; ++g) to[g] = mask.intersection(present[g]);
      }
    }
  });
  return found;
}

}  // namespace

TORCH_LIBRARY_IMPL(amodal2, CPU, m) {
  m.impl("mask_rle_areas", &areas);
  m.impl("mask_rle_intersections", &intersections);
}

}  // namespace amodal2

#endif

// Corners and fractions of bilinear samples, with zeros outside the image.
#pragma once

#include <cmath>
#include <cstdint>

namespace amodal2 {

// One sampled point: the rows of its four corners in a list of pixels, and where it lies between.
template <typename T>
struct BilinearSample {
  int32_t row00, row01, row10, row11;  // row<y><x>
  T fraction_x, fraction_y;            // in [0, 1); NaN for a point that is not finite
};

// Places a point given in units of the image, (0, 0) being its top-left corner and (1, 1) the
// opposite one; the first pixel's centre lies at (0.5 / width, 0.5 / height). Pixel (x, y) is row
// start + y * width + x of the list; corners outside the image get `outside_row`, a row of zeros.
template <typename T>
inline __attribute__((always_inline)) BilinearSample<T> locate_bilinear(
    T unit_x, T unit_y, int32_t height, int32_t width, int32_t start, int32_t outside_row) {
  const T x = unit_x * static_cast<T>(width) - T(0.5);
  const T y = unit_y * static_cast<T>(height) - T(0.5);
  const T floor_x = std::floor(x);
  const T floor_y = std::floor(y);
  // Bounded so that the conversion is defined; the comparisons are false for NaN.
  const T low_x = floor_x >= T(-2) ? floor_x : T(-2);
  const T low_y = floor_y >= T(-2) ? floor_y : T(-2);
  const int32_t x0 = static_cast<int32_t>(low_x <= static_cast<T>(width) ? low_x : T(-2));
  const int32_t y0 = static_cast<int32_t>(low_y <= static_cast<T>(height) ? low_y : T(-2));
  const bool left = static_cast<uint32_t>(x0) < static_cast<uint32_t>(width);
  const bool right = static_cast<uint32_t>(x0 + 1) < static_cast<uint32_t>(width);
  const bool top = static_cast<uint32_t>(y0) < static_cast<uint32_t>(height);
  const bool bottom = static_cast<uint32_t>(y0 + 1) < static_cast<uint32_t>(height);
  const int32_t row = start + y0 * width + x0;
  BilinearSample<T> sample;
  sample.row00 = top & left ? row : outside_row;
  sample.row01 = top & right ? row + 1 : outside_row;
  sample.row10 = bottom & left ? row + width : outside_row;
  sample.row11 = bottom & right ? row + width + 1 : outside_row;
  sample.fraction_x = x - floor_x;
  sample.fraction_y = y - floor_y;
  return sample;
}

}  // namespace amodal2

// Every kernel of every instruction set that runs here, against plain loops in double precision.
//
// Whatever a kernel reads or writes ends where its page ends, and the next page is nobody's: one
// byte too far is a fault. Prints the names of the instruction sets, and each law that is broken.

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels.h"

using namespace bigcode;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kUntouched = 123.0f;

int failures = 0;
const char *set_name = "";

void expect(bool law, const char *name, const char *detail = "") {
  if (law) return;
  if (++failures <= 40) std::printf("%s: %s %s\n", set_name, name, detail);
}

std::mt19937 generator(7);

int drawn(int low, int high) { return std::uniform_int_distribution<int>(low, high)(generator); }
float normal() { return std::normal_distribution<float>()(generator); }
template <typename T>
T one_of(std::initializer_list<T> some) {
  return some.begin()[drawn(0, static_cast<int>(some.size()) - 1)];
}

// Numbers whose last one is the last of its page.
template <typename T>
class Guarded {
 public:
  explicit Guarded(int64_t count) : count_(count) {
    const int64_t page = sysconf(_SC_PAGESIZE), bytes = count * int64_t{sizeof(T)};
    size_ = (bytes + page - 1) / page * page + page;
    pages_ = static_cast<char *>(
        mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (pages_ == MAP_FAILED || mprotect(pages_ + size_ - page, page, PROT_NONE) != 0) {
      std::perror("mmap");
      std::exit(2);
    }
    numbers_ = reinterpret_cast<T *>(pages_ + size_ - page - bytes);
  }
  ~Guarded() { munmap(pages_, size_); }
  Guarded(const Guarded &) = delete;
  Guarded &operator=(const Guarded &) = delete;

  template <typename Draw>
  Guarded &fill(const Draw &draw) {
    for (int64_t i = 0; i < count_; ++i) numbers_[i] = draw();
    return *this;
  }
  T *data() { return numbers_; }
  T &operator[](int64_t i) { return numbers_[i]; }

 private:
  int64_t count_, size_;
  char *pages_;
  T *numbers_;
};

double half(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double size = exponent == 31  ? (fraction ? kNan : kInfinity)
                      : exponent == 0 ? std::ldexp(fraction, -24)
                                      : std::ldexp(1024 + fraction, exponent - 25);
  return bits >> 15 ? -size : size;
}

double brain(uint16_t bits) {
  const uint32_t whole = uint32_t{bits} << 16;
  float number;
  std::memcpy(&number, &whole, 4);
  return number;
}

bool same(double actual, double expected) {
  return actual == expected || (std::isnan(actual) && std::isnan(expected));
}

bool near(double actual, double expected, double tolerance) {
  return same(actual, expected) || std::abs(actual - expected) <= tolerance;
}

double activation(Activation kind, double x) {
  switch (kind) {
    case Activation::kGelu: return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Activation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kRelu: return x > 0 ? x : std::isnan(x) ? x : 0;
    case Activation::kSilu: return x / (1 + std::exp(-x));
    case Activation::kTanh: return std::tanh(x);
  }
  return 0;
}

// Activations, and their codes as `quantise` makes them, which has laws of its own.
struct Activations {
  Guarded<float> values, factors;
  Guarded<int32_t> starts;
  Guarded<int8_t> codes;

  Activations(const Kernels &kernels, int tokens, int columns, bool dealt)
      : values(int64_t{tokens} * columns),
        factors(int64_t{tokens} * groups_of(columns)),
        starts(int64_t{tokens} * groups_of(columns)),
        codes(int64_t{tokens} * padded_columns(columns)) {
    values.fill(normal);
    for (int64_t token = 0; token < tokens; ++token) {
      const int64_t group = token * groups_of(columns);
      kernels.quantise(values.data() + token * columns, columns, dealt,
                       codes.data() + token * padded_columns(columns), factors.data() + group,
                       starts.data() + group);
    }
  }

  static int place(int i, bool dealt) { return dealt ? i % 2 * (kGroup / 2) + i / 2 : i; }

  double decoded(int token, int column, int columns, bool dealt) {
    const int group = column / kGroup;
    const int64_t at = int64_t{token} * padded_columns(columns) + group * kGroup;
    return codes[at + place(column % kGroup, dealt)] *
           double{factors[int64_t{token} * groups_of(columns) + column / kGroup]};
  }
};

void check_product(const Kernels &kernels) {
  const Format format = one_of({Format::kFloat, Format::kHalf, Format::kBrain, Format::kInt8,
                                Format::kInt4});
  const bool coded = format == Format::kInt4 || (format == Format::kInt8 && drawn(0, 1));
  const bool dealt = format == Format::kInt4;
  const int columns = one_of({1, 3, 4, 7, 15, 16, 17, 31, 33, 63, 64, 65, 90, 128, 255, 256, 257,
                              300, 512, 513, 700, 1030, 2050, 2500, 4300});
  // Few tokens, and so many that panels are laid out for them.
  const bool many = drawn(0, 2) == 0;
  const int rows = drawn(1, many ? 150 : 19);
  const int tokens =
      many ? one_of({drawn(8, 40), drawn(41, 70), drawn(250, 300)}) : drawn(1, 15);
  const int groups = groups_of(columns);
  const int first = drawn(0, rows - 1), some = drawn(1, rows - first), stride = rows + drawn(0, 3);
  const int bytes = format == Format::kFloat ? 4 : format == Format::kInt8 ? 1 : 2;
  const int64_t row_bytes = dealt ? groups * (kGroup / 2) : int64_t{columns} * bytes;
  Guarded<uint8_t> weights(rows * row_bytes);
  std::vector<double> exact(int64_t{rows} * columns);
  Guarded<float> scales(dealt ? int64_t{rows} * groups : rows);
  scales.fill([] { return (drawn(0, 1) ? 1.0f : -1.0f) * (0.1f + 0.01f * drawn(0, 99)); });
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column < (dealt ? groups * kGroup : columns); ++column) {
      double number = 0;
      uint8_t *at = weights.data() + row * row_bytes + int64_t{column} * bytes;
      if (format == Format::kFloat) {
        const float drawn_number = normal();
        std::memcpy(at, &drawn_number, 4);
        number = drawn_number;
      } else if (format == Format::kInt8) {
        const int code = drawn(-128, 127);
        *at = static_cast<uint8_t>(code);
        number = code * double{scales[row]};
      } else if (format == Format::kInt4) {
        // Of the columns that fill a row up too.
        const int code = drawn(0, 15);
        uint8_t &pair = weights[row * row_bytes + column / 2];
        pair = column % 2 ? (pair & 15) | code << 4 : code;
        number = (code - 8) * double{scales[int64_t{row} * groups + column / kGroup]};
      } else {
        // Any finite number between 2^-14 … 2^2 and all subnormal ones.
        const bool is_half = format == Format::kHalf;
        const uint16_t bits = (is_half ? drawn(0, 17 << 10) : drawn(100 << 7, 129 << 7)) |
                              drawn(0, 1) << 15;
        std::memcpy(at, &bits, 2);
        number = is_half ? half(bits) : brain(bits);
      }
      if (column < columns) exact[int64_t{row} * columns + column] = number;
    }
  }
  Activations x(kernels, tokens, columns, dealt);
  const Codes codes{x.codes.data(),   padded_columns(columns), columns,
                    x.factors.data(), x.starts.data(),         dealt};
  Guarded<float> out(int64_t{tokens - 1} * stride + rows), bias(rows);
  out.fill([] { return kUntouched; });
  bias.fill(normal);
  const bool has_bias = drawn(0, 1);
  Guarded<float> scratch(kProductScratch);
  const Matrix matrix{format,        rows,          columns,
                      weights.data(), scales.data(), has_bias ? bias.data() : nullptr};
  const Outputs outputs{out.data(), stride, one_of({Then::kStore, Then::kAdd, Then::kActivate}),
                        one_of({Activation::kGeluTanh, Activation::kRelu}), scratch.data()};
  Guarded<float> crosswise(crosswise_size(tokens, columns));
  const Inputs inputs{x.values.data(), columns, coded ? &codes : nullptr, tokens, crosswise.data()};
  if (kernels.is_many(inputs)) {
    for (int panel = 0; panel * kernels.panel < tokens; ++panel) {
      kernels.lay_crosswise(inputs, columns, panel);
    }
  }
  kernels.product(matrix, inputs, first, some, outputs);
  char shape[120];
  std::snprintf(shape, sizeof shape, "format %d coded %d columns %d rows %d+%d/%d tokens %d",
                static_cast<int>(format), coded, columns, first, some, rows, tokens);
  for (int token = 0; token < tokens; ++token) {
    for (int row = 0; row < rows; ++row) {
      const float actual = out[int64_t{token} * stride + row];
      if (row < first || row >= first + some) {
        expect(actual == kUntouched, "a product writes the rows that it is told alone", shape);
        continue;
      }
      double expected = has_bias ? bias[row] : 0, size = 1e-3 + std::abs(expected);
      for (int column = 0; column < columns; ++column) {
        const double number = exact[int64_t{row} * columns + column];
        const double times = coded ? x.decoded(token, column, columns, dealt)
                                   : x.values[int64_t{token} * columns + column];
        expected += number * times;
        // Shifted codes of 8 bits are as large as 255, those of 4 bits as 15.
        size += std::abs((std::abs(number) + (coded ? std::abs(scales[row]) * 8 : 0)) * times);
      }
      if (outputs.then == Then::kActivate) expected = activation(outputs.activation, expected);
      if (outputs.then == Then::kAdd) expected += kUntouched, size += 100;
      expect(near(actual, expected, 1e-5 * size), "a product is that of the numbers", shape);
    }
  }
}

void check_quantise(const Kernels &kernels) {
  const int columns = one_of({1, 5, 63, 64, 65, 200, 256, 257, 448, 600});
  const bool dealt = drawn(0, 1);
  const int kind = drawn(0, 6);
  Guarded<float> x(columns), factors(groups_of(columns));
  Guarded<int32_t> starts(groups_of(columns));
  Guarded<int8_t> codes(padded_columns(columns));
  const float size = kind == 1 ? 1e-40f : kind == 2 ? 1e30f : kind == 3 ? 0.0f : 1.0f;
  x.fill([&] { return std::clamp(normal(), -3.0f, 3.0f) * size; });
  codes.fill([] { return int8_t{99}; });
  const int spoilt = drawn(0, columns - 1);
  if (kind == 4) x[spoilt] = kNan;
  if (kind == 5) x[spoilt] = one_of({kInfinity, -kInfinity});
  kernels.quantise(x.data(), columns, dealt, codes.data(), factors.data(), starts.data());
  for (int chunk = 0; chunk < groups_of(columns); ++chunk) {
    const int end = std::min(columns, (chunk + 1) * kGroup);
    float most = 0;
    for (int i = chunk * kGroup; i < end; ++i) most = std::max(most, std::abs(x[i]));
    const float factor = factors[chunk];
    if (kind >= 4 && kind <= 5 && spoilt / kGroup == chunk) {
      expect(std::isnan(factor), "a factor says that a number is none");
    } else {
      expect(factor == most / 127, "a chunk's factor is its largest magnitude by 127");
    }
  }
  for (int group = 0; group < groups_of(columns); ++group) {
    const float factor = factors[group];
    int sum = 0;
    for (int i = 0; i < kGroup; ++i) {
      const int code = codes[group * kGroup + Activations::place(i, dealt)];
      const int column = group * kGroup + i;
      sum += code;
      if (std::isnan(factor)) continue;
      if (column >= columns) {
        expect(code == 0, "behind the last column codes are 0");
      } else if (factor < std::numeric_limits<float>::min()) {
        expect(code == 0, "codes of next to nothing are 0");
      } else {
        expect(near(double{factor} * code, x[column], factor * 0.50001),
               "a code is the nearest one");
      }
    }
    // Where products are of unsigned codes those of int8 are shifted.
    const int shift = dealt ? 8 : std::strcmp(kernels.name, "avx512") == 0 ? 128 : 0;
    expect(starts[group] == -shift * sum, "a start makes up for the shift of a matrix's codes");
  }
}

void check_normalise(const Kernels &kernels) {
  const int columns = drawn(1, 80);
  Guarded<float> x(columns), gain(columns), shift(columns), out(columns);
  x.fill([] { return 5 + normal(); });
  gain.fill(normal);
  shift.fill(normal);
  kernels.normalise(x.data(), gain.data(), shift.data(), 1e-5f, columns, out.data());
  double mean = 0, variance = 0;
  for (int i = 0; i < columns; ++i) mean += x[i] / double(columns);
  for (int i = 0; i < columns; ++i) variance += (x[i] - mean) * (x[i] - mean) / columns;
  for (int i = 0; i < columns; ++i) {
    const double expected = (x[i] - mean) / std::sqrt(variance + 1e-5) * gain[i] + shift[i];
    expect(near(out[i], expected, columns == 1 ? 1e-2 : 1e-4), "LayerNorm");
  }
}

// Of a matrix of one column, so that the products are drawn too.
void check_activation(const Kernels &kernels) {
  const auto kind = static_cast<Activation>(drawn(0, 4));
  const int count = drawn(1, 140);
  Guarded<float> products(count), out(count), one(1);
  one[0] = 1;
  products.fill([] { return normal() * one_of({1e-6f, 1.0f, 4.0f, 50.0f, 1e6f}); });
  if (drawn(0, 1)) products[drawn(0, count - 1)] = one_of({kNan, kInfinity, 0.0f});
  const Matrix matrix{Format::kFloat, count, 1, products.data(), nullptr, nullptr};
  kernels.product(matrix, {one.data(), 1, nullptr, 1, nullptr}, 0, count,
                  {out.data(), count, Then::kActivate, kind, nullptr});
  for (int i = 0; i < count; ++i) {
    const double expected = activation(kind, products[i]);
    expect(near(out[i], expected, 5e-7 + 5e-7 * std::abs(expected)), "an activation");
  }
}

void check_attend(const Kernels &kernels) {
  const int dim = one_of({1, 2, 5, 8, 16, 18, 33, 64, 70, 530}), heads = one_of({1, 2, 3, 5, 7});
  const int tokens = drawn(1, 9), past = one_of({0, 1, 2, 3, 7, 15, 30, 100, 510, 1100});
  const int first = drawn(0, tokens * heads - 1);
  const int count = drawn(1, std::min(kMostQueries, tokens * heads - first));
  const int extra = drawn(0, 5), slots = past + tokens;
  const int last = (first + count - 1) / heads;
  const int64_t stride = int64_t{heads} * dim + extra;
  Guarded<float> queries((tokens - 1) * stride + int64_t{heads} * dim);
  Guarded<float> out((tokens - 1) * stride + int64_t{heads} * dim);
  // Blocks that the last of these queries does not see are not there, and slots are no numbers.
  const int visible = past + last + 1;
  Guarded<float> cache(blocks_of(visible) * block_size(dim));
  Guarded<float> scratch(strips_of(dim) + strips_of(slots));
  queries.fill([] { return 2 * normal(); });
  cache.fill([] { return kNan; });
  const auto block = [&](int slot) { return cache.data() + slot / kSlots * block_size(dim); };
  const auto key = [&](int slot, int i) -> float & {
    return block(slot)[i * kSlots + slot % kSlots];
  };
  const auto value = [&](int slot, int i) -> float & {
    return block(slot)[(kSlots + slot % kSlots) * dim + i];
  };
  // Early scores may be so much higher than late ones that these vanish.
  const bool early = drawn(0, 3) == 0;
  for (int slot = 0; slot < visible; ++slot) {
    for (int i = 0; i < dim; ++i) {
      key(slot, i) = normal() * (early && slot < 8 ? 40 : 1);
      value(slot, i) = normal();
    }
  }
  scratch.fill([] { return kNan; });
  out.fill([] { return kUntouched; });
  const float factor = 1 / std::sqrt(static_cast<float>(dim));
  kernels.attend({queries.data(), out.data(), static_cast<int>(stride), static_cast<int>(stride),
                  heads, first, count, cache.data(), past, dim, factor, scratch.data()});
  for (int query = 0; query < tokens * heads; ++query) {
    const int64_t at = query / heads * stride + query % heads * dim;
    if (query < first || query >= first + count) {
      expect(out[at] == kUntouched, "attention writes its own queries alone");
      continue;
    }
    const int seen = past + query / heads + 1;
    std::vector<double> weights(seen), mixed(dim);
    double total = 0;
    for (int slot = 0; slot < seen; ++slot) {
      double score = 0;
      for (int i = 0; i < dim; ++i) score += queries[at + i] * key(slot, i);
      total += weights[slot] = std::exp(score * factor);
    }
    for (int slot = 0; slot < seen; ++slot) {
      for (int i = 0; i < dim; ++i) mixed[i] += weights[slot] / total * value(slot, i);
    }
    for (int i = 0; i < dim; ++i) {
      expect(near(out[at + i], mixed[i], early ? 2e-4 : 2e-5), "attention");
    }
  }
}

void check_logits(const Kernels &kernels) {
  const int count = one_of({1, 2, 5, 16, 17, 100, 1023, 1024, 1025, 3001});
  Guarded<float> logits(count), weights(count);
  // Whole numbers, so that there are equal ones.
  const bool ties = drawn(0, 1);
  logits.fill([&] { return ties ? static_cast<float>(drawn(-9, 9)) : 6 * normal(); });
  if (drawn(0, 3) == 0) logits[drawn(0, count - 1)] = -kInfinity;
  const float most = *std::max_element(logits.data(), logits.data() + count);
  const int best = std::max_element(logits.data(), logits.data() + count) - logits.data();
  expect(kernels.best(logits.data(), count) == best, "the best is the first of the highest");
  if (most == -kInfinity) return;
  double total = 0, entropy = 0;
  for (int i = 0; i < count; ++i) total += std::exp(double{logits[i]} - most);
  const double sum = kernels.weigh(logits.data(), count, most, weights.data());
  expect(near(sum, total, 3e-6 * total), "the sum of weights");
  bool has_never = false;
  for (int i = 0; i < count; ++i) {
    const double p = std::exp(double{logits[i]} - most) / total;
    expect(near(weights[i], p * total, 3e-7), "a weight");
    has_never |= logits[i] == -kInfinity;
    if (p > 0) entropy -= p * std::log(p);
  }
  const int target = drawn(0, count - 1);
  int before = 0;
  for (int i = 0; i < count; ++i) {
    before += logits[i] > logits[target] || (logits[i] == logits[target] && i < target);
  }
  float told[3];
  kernels.measure(logits.data(), count, target, told);
  const double log_p = logits[target] - most - std::log(total);
  expect(near(told[0], log_p, 2e-6 * (1 + std::abs(log_p))), "log p");
  expect(told[1] == before + 1, "rank");
  if (!has_never) expect(near(told[2], entropy, 1e-5), "entropy");
  logits[drawn(0, count - 1)] = kNan;
  expect(kernels.best(logits.data(), count) == -1, "of what is no number none is best");
  expect(std::isnan(kernels.weigh(logits.data(), count, most, weights.data())),
         "what is no number has no weight");
}

void check_widen(const Kernels &kernels) {
  Guarded<uint16_t> bits(65536);
  for (int i = 0; i < 65536; ++i) bits[i] = i;
  const int first = drawn(0, 60000), count = drawn(1, 65536 - first);
  Guarded<float> to(count);
  kernels.widen(Format::kHalf, bits.data(), first, count, 0.5f, to.data());
  for (int i = 0; i < count; ++i) expect(same(to[i], half(first + i) * 0.5), "half precision");
  kernels.widen(Format::kBrain, bits.data(), first, count, 1, to.data());
  for (int i = 0; i < count; ++i) expect(same(to[i], brain(first + i)), "brain floats");
  Guarded<int8_t> codes(256);
  for (int i = 0; i < 256; ++i) codes[i] = i - 128;
  kernels.widen(Format::kInt8, codes.data(), 3, std::min(count, 253), 0.25f, to.data());
  for (int i = 0; i < std::min(count, 253); ++i) expect(to[i] == (i - 125) * 0.25f, "int8");
}

// All bits of both halves by the vector unit too: a matrix of one column and a row for each.
void check_all_halves(const Kernels &kernels) {
  Guarded<uint16_t> bits(65536);
  for (int i = 0; i < 65536; ++i) bits[i] = i;
  Guarded<float> x(64), out(1024);
  for (int column = 0; column < 64; ++column) {
    for (int i = 0; i < 64; ++i) x[i] = i == column;
    // What is no number or infinite spoils its row.
    for (const Format format : {Format::kHalf, Format::kBrain}) {
      const Matrix matrix{format, 1024, 64, bits.data(), nullptr, nullptr};
      kernels.product(matrix, {x.data(), 64, nullptr, 1, nullptr}, 0, 1024,
                      {out.data(), 1024, Then::kStore, Activation::kRelu, nullptr});
      for (int row = 0; row < 1024; ++row) {
        const int own = row * 64 + column, end = format == Format::kHalf ? 0x7c00 : 0x7f80;
        const double exact = format == Format::kHalf ? half(own) : brain(own);
        const bool spoilt = (own & 0x7fc0) >= (end & 0x7fc0);
        expect(spoilt ? std::isnan(out[row]) : same(out[row], exact),
               "each of the 65536 numbers is widened to itself");
      }
    }
  }
}

}  // namespace

int main() {
  for (const char *name : {"avx512", "avx2", "neon", "portable"}) {
    const Kernels *table = kernels(name);
    if (table == nullptr) continue;
    set_name = name;
    std::printf("%s\n", name);
    for (int i = 0; i < 600; ++i) check_product(*table);
    for (int i = 0; i < 200; ++i) check_quantise(*table);
    for (int i = 0; i < 100; ++i) check_normalise(*table);
    for (int i = 0; i < 200; ++i) check_activation(*table);
    for (int i = 0; i < 300; ++i) check_attend(*table);
    for (int i = 0; i < 100; ++i) check_logits(*table);
    for (int i = 0; i < 4; ++i) check_widen(*table);
    check_all_halves(*table);
  }
  std::printf("%d broken\n", failures);
  return failures > 0;
}

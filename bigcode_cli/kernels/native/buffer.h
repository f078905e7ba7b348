// Numbers in memory that begins where a cache line does, so that no vector lies on two.

#pragma once

#include <cstdint>
#include <memory>
#include <new>

namespace bigcode {

template <typename Number>
class Buffer {
 public:
  Buffer() = default;
  // Not initialised: pages that nobody writes are never there. Throws std::bad_alloc.
  explicit Buffer(int64_t count)
      : count_(count),
        numbers_(static_cast<Number *>(::operator new(sizeof(Number) * count, kLine))) {}

  // Makes room for so many; what was held is lost where there was less.
  void reserve(int64_t count) {
    if (count > count_) *this = Buffer(count);
  }

  Number *data() const { return numbers_.get(); }

 private:
  static constexpr std::align_val_t kLine{64};
  struct Delete {
    void operator()(Number *numbers) const { ::operator delete(numbers, kLine); }
  };

  int64_t count_ = 0;
  std::unique_ptr<Number, Delete> numbers_;
};

}  // namespace bigcode

// Encodes many texts on all threads.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace octavo {

class BatchEncoder {
  public:
    // `tokenizer` must outlive it.
    explicit BatchEncoder(const Tokenizer& tokenizer);

    // Sets ids[i] to the ids of texts[i], whatever the number of threads. Throws the Error of the
    // first text that has one.
    void encode(std::span<const std::string> texts, std::vector<std::vector<std::int32_t>>& ids);

  private:
    const Tokenizer& tokenizer_;
    std::vector<std::unique_ptr<Encoder>> encoders_;  // one a thread, with what it remembers
};

}  // namespace octavo

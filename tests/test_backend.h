// The backend that tests run on: OCTAVO_TEST_BACKEND=cpu|cuda, cpu where it is not set.
#pragma once

#include <memory>

#include "runtime/backend.h"

namespace octavo::test {

bool on_cuda();
std::unique_ptr<Backend> make_test_backend();
Backend& backend();

}  // namespace octavo::test

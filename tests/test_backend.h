// The backend that tests run on: OCTAVO_TEST_BACKEND=cpu|cuda, cpu where it is not set.
#pragma once

#include <memory>

#include "runtime/backend.h"

namespace octavo::test {

bool on_cuda();
// Where the backend under test is not there, says so and ends the process as skipped (77).
void skip_without_backend();
std::unique_ptr<Backend> make_test_backend();
Backend& backend();

}  // namespace octavo::test

// Runs something that must be refused as wrong usage, and returns the words.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace octavo {

template <class Body>
std::string usage_error(Body&& body) {
    try {
        body();
    } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::usage) << error.what();
        return error.what();
    }
    ADD_FAILURE() << "no Error was thrown";
    return {};
}

}  // namespace octavo

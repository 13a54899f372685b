#include "graph/op.h"

namespace octavo {

Op::Op(const Op&) = default;
Op::Op(Op&&) noexcept = default;
Op& Op::operator=(const Op&) = default;
Op& Op::operator=(Op&&) noexcept = default;
Op::~Op() = default;

bool Op::operator==(const Op& other) const {
    return static_cast<const OpVariant&>(*this) == static_cast<const OpVariant&>(other);
}

}  // namespace octavo

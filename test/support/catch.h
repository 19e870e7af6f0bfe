#pragma once

// The one place that names Catch2's header: Debian 12 has version 2.13, which later distributions replaced
// by 3.
#include <catch2/catch.hpp>

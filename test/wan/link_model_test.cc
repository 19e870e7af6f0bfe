// stub
#include "test/support/catch.h"

#include "CMempoolPlatform.h"

"""Mining: a log of impressions and actions -> engaged queries and rates; saves on boards -> board titles."""
